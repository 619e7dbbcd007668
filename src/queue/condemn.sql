-- Restore point $1 can never be read again, because of $2: nothing is restored from it, it ends no exposure, and where $3 and it
-- was the newest trusted one, a backup is asked for at once, unless one waits or runs: what is older is replaced by nothing that
-- could be made now. One that retention has let go meanwhile is being removed: that its bytes are gone is no finding. Its
-- resource is locked by the finish that this belongs to, so that no other changes its newest instant meanwhile.
with point as (
    update lastgood.restore_points
    set quarantined_at = clock_timestamp(), quarantined_because = $2
    where id = $1 and quarantined_at is null and expired_at is null
    returning id, resource_id
),
newest as materialized (
    select point.resource_id, max(other.consistent_at) as consistent_at
    from point left join lastgood.trusted_points as other on other.resource_id = point.resource_id and other.id <> $1
    group by point.resource_id
),
was as materialized (
    select r.id, r.newest_consistent_at from lastgood.resources as r join point on point.resource_id = r.id
),
resource as (
    update lastgood.resources as r
    set newest_consistent_at = newest.consistent_at
    from newest where r.id = newest.resource_id
    returning r.id, r.engine, r.status, newest.consistent_at
),
asked as (
    insert into lastgood.runs (queue, kind, trigger, resource_id, priority, args, idempotency_key)
    select
        resource.engine, 'backup', 'upkeep', resource.id, lastgood.priority('backup', 'upkeep'), lastgood.job('backup'),
        'quarantine-' || $1::uuid
    from resource join was on was.id = resource.id
    where $3 and resource.status = 'active' and resource.consistent_at is distinct from was.newest_consistent_at
        and not exists (
            select from lastgood.runs as coming
            where coming.resource_id = resource.id and coming.kind = 'backup' and coming.state in ('queued', 'running')
        )
    on conflict do nothing
    returning id
)
select point.resource_id, (select id from asked) as backup from point
