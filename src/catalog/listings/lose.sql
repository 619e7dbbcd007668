-- Points $2 are gone from store $1, for the reasons $3: those that are on record in no other store are quarantined, and a backup of
-- each resource that is worse off is asked for, unless one waits or runs. Their resources are locked.
with gone as (
    select id, because from unnest($2::uuid[], $3::text[]) as given (id, because)
),
lost as (
    update lastgood.restore_points as point
    set quarantined_at = clock_timestamp(), quarantined_because = gone.because
    from gone
    where point.id = gone.id and point.quarantined_at is null and point.expired_at is null
        and exists (select from lastgood.copies as copy where copy.point_id = point.id and copy.store = $1)
        and not exists (select from lastgood.copies as other where other.point_id = point.id and other.store <> $1)
    returning point.id, point.resource_id, point.quarantined_because
),
was as materialized (
    select r.id, r.newest_consistent_at from lastgood.resources as r where r.id in (select resource_id from lost)
),
exposed as (
    update lastgood.resources as r
    set newest_consistent_at = (
        select max(left_over.consistent_at) from lastgood.trusted_points as left_over
        where left_over.resource_id = r.id and left_over.id not in (select id from lost)
    )
    where r.id in (select resource_id from lost)
    returning r.id, r.engine, r.status, r.newest_consistent_at
),
asked as (
    insert into lastgood.runs (queue, kind, trigger, resource_id, priority, args, idempotency_key)
    select
        exposed.engine, 'backup', 'upkeep', exposed.id, lastgood.priority('backup', 'upkeep'), lastgood.job('backup'),
        'quarantine-' || (select max(lost.id::text) from lost where lost.resource_id = exposed.id)
    from exposed join was on was.id = exposed.id
    where exposed.status = 'active' and exposed.newest_consistent_at is distinct from was.newest_consistent_at
        and not exists (
            select from lastgood.runs as coming
            where coming.resource_id = exposed.id and coming.kind = 'backup' and coming.state in ('queued', 'running')
        )
    on conflict do nothing
)
select lost.id as "id!", lost.resource_id as "resource_id!", lost.quarantined_because as "because!" from lost
