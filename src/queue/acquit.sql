-- Restore point $1 was read to its last byte: it is proven, and usable if it was not. Its resource is locked by the finish
-- that this belongs to.
with was as materialized (
    select id, resource_id, quarantined_because from lastgood.restore_points where id = $1 for no key update
),
proven as (
    update lastgood.restore_points as point
    set verified_at = clock_timestamp(), quarantined_at = null, quarantined_because = null
    from was where point.id = was.id
    returning point.resource_id, point.consistent_at, point.expired_at
),
resource as (
    update lastgood.resources as r
    set newest_consistent_at = greatest(r.newest_consistent_at, proven.consistent_at)
    from proven, was
    where r.id = proven.resource_id and was.quarantined_because is not null and proven.expired_at is null
)
select was.resource_id, was.quarantined_because from was
