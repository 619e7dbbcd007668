-- Locks the points that are to be let go ($1) and those whose being there lets them go: the newest usable and the newest
-- proven point of each resource. Whoever restores from one of them, pins it or condemns it comes before or after.
with resource as (
    select distinct resource_id as id from lastgood.restore_points where id = any($1::uuid[])
),
keeper as (
    select newest.id from resource cross join lateral (
        (
            select id from lastgood.restore_points
            where resource_id = resource.id and quarantined_at is null and expired_at is null
                and consistent_at <= now() and created_at <= now()
            order by consistent_at desc, created_at desc, id desc limit 1
        )
        union all
        (
            select id from lastgood.restore_points
            where resource_id = resource.id and quarantined_at is null and expired_at is null
                and consistent_at <= now() and created_at <= now() and verified_at is not null
            order by consistent_at desc, created_at desc, id desc limit 1
        )
    ) as newest
)
select id from lastgood.restore_points
where id = any($1::uuid[]) or id in (select id from keeper)
order by id
for no key update
