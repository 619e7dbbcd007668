-- The restore points that retention has to know of each resource. $1: resources. $2: seconds: from which age on points may
-- expire; null: all are needed. $3: how many of the newest are protected besides. $4: at most so many old points of each. Besides, the
-- newest proven one, the newest of all that can be read, and the newest that shrank and holds the older ones.
select point.id as "id!", point.resource_id as "resource_id!", point.consistent_at as "consistent_at!",
    point.created_at as "recorded_at!", point.verified_at, point.pinned_at, point.held_at, point.quarantined_at,
    point.expired_at, point.suspected_at, coalesce('shrunk' = any(point.suspected_of), false) as "is_shrunk!",
    exists (
        select from lastgood.runs as run
        where run.resource_id = point.resource_id and run.kind = 'restore' and run.state in ('queued', 'running')
            and run.args ->> 'point' = point.id::text
    ) as "is_in_restore!"
from unnest($1::text[], $2::float8[], $3::bigint[]) as asked (resource_id, seconds, protected)
cross join lateral (
    (
        select id from lastgood.restore_points
        where resource_id = asked.resource_id and expired_at is null and (
            asked.seconds is null
            or (consistent_at <= now() - make_interval(secs => asked.seconds)
                and created_at <= now() - make_interval(secs => asked.seconds))
        )
        order by consistent_at limit case when asked.seconds is not null then $4::bigint end
    )
    union
    (
        select id from lastgood.trusted_points
        where resource_id = asked.resource_id and consistent_at <= now() and created_at <= now()
        order by consistent_at desc, created_at desc, id desc limit asked.protected
    )
    union
    (
        select id from lastgood.trusted_points
        where resource_id = asked.resource_id and consistent_at <= now() and created_at <= now() and verified_at is not null
        order by consistent_at desc, created_at desc, id desc limit 1
    )
    union
    (
        select id from lastgood.usable_points
        where resource_id = asked.resource_id and consistent_at <= now() and created_at <= now()
        order by consistent_at desc, created_at desc, id desc limit 1
    )
    union
    (
        select id from lastgood.usable_points
        where resource_id = asked.resource_id and suspected_at is not null and 'shrunk' = any(suspected_of)
            and consistent_at <= now() and created_at <= now()
        order by consistent_at desc, created_at desc, id desc limit 1
    )
) as wanted
join lastgood.restore_points as point on point.id = wanted.id
