-- Restore point $1 is damaged, because of $2: nothing is restored from it, it ends no exposure, and a backup is asked for at
-- once. Its resource is locked by the finish that this belongs to, so that no other changes its newest instant meanwhile.
with point as (
    update lastgood.restore_points
    set quarantined_at = clock_timestamp(), quarantined_because = $2
    where id = $1 and quarantined_at is null
    returning id, resource_id
),
resource as (
    update lastgood.resources as r
    set newest_consistent_at = (
        select max(other.consistent_at) from lastgood.restore_points as other
        where other.resource_id = r.id and other.id <> $1 and other.quarantined_at is null and other.expired_at is null
    )
    from point where r.id = point.resource_id
    returning r.id, r.engine, r.status
),
asked as (
    insert into lastgood.runs (queue, kind, trigger, resource_id, priority, args, idempotency_key)
    select resource.engine, 'backup', 'adhoc', resource.id, 50, '{"kind": "backup"}', 'quarantine-' || $1::uuid
    from resource where resource.status = 'active'
    on conflict do nothing
    returning id
)
select point.resource_id, (select id from asked) as backup from point
