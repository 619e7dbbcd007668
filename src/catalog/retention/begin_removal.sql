-- Begins the removal of point $1, if nobody wants it after all: from now on it is too late to keep it. What is being copied or
-- read back at this moment waits: the one would leave a copy behind, the other would find damage. Those that have not begun
-- see that it has expired.
update lastgood.restore_points as point
set removal_began_at = coalesce(point.removal_began_at, now())
where point.id = $1 and point.expired_at is not null and point.pinned_at is null and point.held_at is null
    and not exists (
        select from lastgood.runs as run
        where run.resource_id = point.resource_id and run.kind = 'restore' and run.state in ('queued', 'running')
            and run.args ->> 'point' = point.id::text
    )
    and not exists (
        select from lastgood.runs as run
        where run.kind in ('copy', 'verify') and run.state = 'running' and run.args ->> 'point' = point.id::text
    )
    -- Where restore points have disappeared en masse, what is left is all that there is.
    and not exists (
        select from lastgood.store_listings as it join lastgood.stores as known on known.name = it.store
        where it.vanished_at is not null
    )
returning point.resource_id, point.manifest_key, point.manifest #>> '{archive,key}' as archive_key
