-- Trusts point $1, which is suspect, because of $2; returns what it was suspected of. Its resource is locked. What a failure now would
-- lose falls with it, unless it cannot be used for another reason.
with was as (
    select id, resource_id, suspected_because from lastgood.restore_points
    where id = $1 and suspected_at is not null
    for no key update
),
point as (
    update lastgood.restore_points as point
    set suspected_at = null, confirmed_at = now(), confirmed_because = $2
    from was where point.id = was.id
    returning point.resource_id, point.consistent_at, point.quarantined_at, point.expired_at
),
resource as (
    update lastgood.resources as r
    set newest_consistent_at = greatest(r.newest_consistent_at, point.consistent_at)
    from point
    where r.id = point.resource_id and point.quarantined_at is null and point.expired_at is null
)
select was.suspected_because as "because!" from was
