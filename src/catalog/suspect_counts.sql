-- Each engine's suspect points; the resources, not removed, that have nothing newer to count on; and those whose newest trusted point is of
-- no one instant. The last are found by jumping from resource to resource in an index that holds such points alone.
with recursive of_no_instant as (
    (
        select resource_id, consistent_at from lastgood.trusted_points
        where manifest ->> 'consistency' = 'none' order by resource_id, consistent_at desc limit 1
    )
    union all
    select next.resource_id, next.consistent_at
    from of_no_instant as last cross join lateral (
        select resource_id, consistent_at from lastgood.trusted_points
        where manifest ->> 'consistency' = 'none' and resource_id > last.resource_id
        order by resource_id, consistent_at desc limit 1
    ) as next
),
counted as (
    select point.resource_id, count(*) as points, max(point.consistent_at) as newest, 0 as of_no_instant
    from lastgood.usable_points as point
    where point.suspected_at is not null
    group by point.resource_id
    union all
    select resource_id, 0, null, 1 from of_no_instant
    where not exists (
        select from lastgood.trusted_points as newer
        where newer.resource_id = of_no_instant.resource_id and newer.consistent_at > of_no_instant.consistent_at
    )
)
select r.engine as "engine!", sum(counted.points)::bigint as "points!",
    count(*) filter (
        where r.status <> 'removed' and counted.newest > coalesce(r.newest_consistent_at, '-infinity')
    ) as "resources!",
    coalesce(sum(counted.of_no_instant) filter (where r.status <> 'removed'), 0)::bigint as "of_no_instant!"
from counted join lastgood.resources as r on r.id = counted.resource_id
group by r.engine
