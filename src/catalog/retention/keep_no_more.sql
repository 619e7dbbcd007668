-- Ends the pin ($2) or the hold ($3) of point $1, and tells why it was kept.
with before as (
    select id, resource_id, case when $2 then pinned_because else held_because end as because
    from lastgood.restore_points where id = $1 for no key update
)
update lastgood.restore_points as point
set pinned_at = case when $2 then null else pinned_at end,
    pinned_because = case when $2 then null else pinned_because end,
    held_at = case when $3 then null else held_at end,
    held_because = case when $3 then null else held_because end
from before where point.id = before.id
returning before.resource_id, before.because
