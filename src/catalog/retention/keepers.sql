-- Locks the points that are to be let go ($1) and those whose being there lets them go: the newest trusted and the newest
-- proven point of each resource, for a suspect one lets nothing go. Whoever restores from one of them, pins it or condemns it comes before or after.
with resource as (
    select distinct resource_id as id from lastgood.restore_points where id = any($1::uuid[])
),
keeper as (
    select newest.id from resource cross join lateral (
        (
            select id from lastgood.trusted_points
            where resource_id = resource.id and consistent_at <= now() and created_at <= now()
            order by consistent_at desc, created_at desc, id desc limit 1
        )
        union all
        (
            select id from lastgood.trusted_points
            where resource_id = resource.id and consistent_at <= now() and created_at <= now() and verified_at is not null
            order by consistent_at desc, created_at desc, id desc limit 1
        )
        union all
        (
            -- Where all that is there is suspect, the newest of that is the best there is.
            select id from lastgood.usable_points
            where resource_id = resource.id and consistent_at <= now() and created_at <= now() and not exists (
                select from lastgood.trusted_points as trusted
                where trusted.resource_id = resource.id and trusted.consistent_at <= now() and trusted.created_at <= now()
            )
            order by consistent_at desc, created_at desc, id desc limit 1
        )
    ) as newest
)
select id from lastgood.restore_points
where id = any($1::uuid[]) or id in (select id from keeper)
order by id
for no key update
