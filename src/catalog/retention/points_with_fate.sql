-- Every restore point of resource $1, newest first, as retention judges it, with when and why it was let go.
select point.id, consistent_at, created_at, verified_at, pinned_at, held_at, quarantined_at, expired_at,
    suspected_at, suspected_because, coalesce('shrunk' = any(suspected_of), false) as "is_shrunk!",
    expired_because, refused_because, coalesce(held_because, pinned_because) as kept_because, stored_bytes,
    exists (
        select from lastgood.runs as run
        where run.resource_id = point.resource_id and run.kind = 'restore'
            and run.state in ('queued', 'running') and run.args ->> 'point' = point.id::text
    ) as "is_in_restore!"
from lastgood.restore_points as point where point.resource_id = $1
order by consistent_at desc, created_at desc, id desc
