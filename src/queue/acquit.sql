-- Restore point $1 was read to its last byte in the stores $2: it is proven, and usable if it was not. Its bytes are: what it is
-- suspected of stays, and so does a quarantine after drills, unless this was a drill ($3). Its resource is locked by the finish
-- that this belongs to. Whoever was quick to read it before its key was shredded changes nothing: it can never be read again.
-- The key is locked as well, for a shredding that is not committed yet is not seen otherwise.
with key as materialized (
    select k.shredded_at
    from lastgood.restore_points as p
    join lastgood.archive_keys as k on k.id::text = p.manifest #>> '{archive,encryption,key}'
    where p.id = $1
    for share of k
),
was as materialized (
    select
        id, resource_id,
        case when $3 or coalesce(drill_outcome, 'proven') not in ('differs', 'failed') then quarantined_because end as quarantined_because
    from lastgood.restore_points
    where id = $1 and not exists (select from key where shredded_at is not null)
    for no key update
),
proven as (
    update lastgood.restore_points as point
    set verified_at = clock_timestamp(),
        quarantined_at = case when was.quarantined_because is null then point.quarantined_at end,
        quarantined_because = case when was.quarantined_because is null then point.quarantined_because end
    from was where point.id = was.id
    returning point.resource_id, point.consistent_at, point.expired_at, point.suspected_at
),
copy as (
    insert into lastgood.copies as c (point_id, store, verified_at)
    select was.id, store, clock_timestamp() from was cross join unnest($2::text[]) as read (store)
    on conflict (point_id, store) do update set verified_at = excluded.verified_at
),
resource as (
    update lastgood.resources as r
    set newest_consistent_at = greatest(r.newest_consistent_at, proven.consistent_at)
    from proven, was
    where r.id = proven.resource_id and was.quarantined_because is not null and proven.expired_at is null
        and proven.suspected_at is null
)
select was.resource_id, was.quarantined_because from was
