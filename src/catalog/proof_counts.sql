-- Each engine's restore points that are damaged, and those that are usable and were not proven within $1 in each of the stores
-- that hold them (null: none is overdue). Both by partial indexes that hold little.
with counted as (
    select point.resource_id, 1 as quarantined, 0 as overdue,
        (r.status <> 'removed' and coalesce(r.newest_consistent_at, '-infinity') < point.consistent_at)::integer as unreplaced
    from lastgood.restore_points as point join lastgood.resources as r on r.id = point.resource_id
    where point.quarantined_at is not null
    union all
    select point.resource_id, 0, 1, 0
    from lastgood.usable_points as point
    where point.id in (
        select copy.point_id from lastgood.copies as copy
        where coalesce(copy.verified_at, copy.stored_at) < now() - $1::interval
    )
)
select r.engine as "engine!", sum(quarantined) as "quarantined!", sum(unreplaced) as "unreplaced!", sum(overdue) as "overdue!"
from counted join lastgood.resources as r on r.id = counted.resource_id
group by r.engine
