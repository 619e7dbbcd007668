-- Mends resources from the future: registered, backed up or planned by a clock that was ahead by more than $1. $2: of these alone; null: of
-- all. They are looked at in the next tick. The newest instant is that of the newest point that can be counted on. What somebody holds is
-- mended the next time.
with future as materialized (
    select id from lastgood.resources
    where (
        created_at > now() + $1::interval or updated_at > now() + $1 or newest_consistent_at > now() + $1
        -- No turn is further ahead than a cadence.
        or (status = 'active' and next_due_at > now() + $1 + coalesce(make_interval(mins => cadence_minutes), interval '0'))
    ) and ($2::text[] is null or id = any ($2))
    order by id
    for no key update skip locked
)
update lastgood.resources as r
set created_at = least(r.created_at, now()), updated_at = least(r.updated_at, now()),
    newest_consistent_at = case
        when r.newest_consistent_at > now() + $1 then (
            select max(point.consistent_at) from lastgood.trusted_points as point
            where point.resource_id = r.id and point.consistent_at <= now()
        )
        else r.newest_consistent_at
    end,
    next_due_at = case when r.status = 'active' and r.next_due_at is not null then least(r.next_due_at, now()) else r.next_due_at end
from future
where r.id = future.id
returning r.id
