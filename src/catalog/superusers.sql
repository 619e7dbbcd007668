-- The first $1 resources whose newest point was made as a superuser, and how many there are. Found by jumping from resource to resource in
-- an index that holds such points alone.
with recursive as_superuser as (
    (
        select resource_id, consistent_at from lastgood.restore_points
        where manifest #>> '{details,superuser}' = 'true' order by resource_id, consistent_at desc limit 1
    )
    union all
    select next.resource_id, next.consistent_at
    from as_superuser as last cross join lateral (
        select resource_id, consistent_at from lastgood.restore_points
        where manifest #>> '{details,superuser}' = 'true' and resource_id > last.resource_id
        order by resource_id, consistent_at desc limit 1
    ) as next
)
select r.id, count(*) over () as "of!"
from as_superuser join lastgood.resources as r on r.id = as_superuser.resource_id
where r.status <> 'removed' and not exists (
    select from lastgood.restore_points as newer
    where newer.resource_id = r.id and newer.consistent_at > as_superuser.consistent_at
)
order by r.id limit $1
