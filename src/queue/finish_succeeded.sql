-- The fenced ends of runs that succeeded, each decided alone: its outcome, its restore point and the resource's next due time, or nothing
-- at all where the run is no longer this attempt's. A list for each column. $1, $2, $3: the attempts. $4: what was done. $5 to $9 describe
-- the restore points, null where the run made none. $10, $11: bytes moved. $12: the store that the points are in. Resources are locked
-- before runs, as a tick does, so that the two cannot wait for each other, and in their order, as two of these do. Triggers quarantine
-- a point whose key was shredded while it was made, and suspect one that its manifest calls so: nobody counts on either. The first
-- locks the keys, in their order; a shredding locks the resources before the keys.
with ending as materialized (
    select * from unnest(
        $1::uuid[], $2::bigint[], $3::uuid[], $4::jsonb[], $5::timestamptz[], $6::text[], $7::jsonb[], $8::bigint[], $9::bigint[],
        $10::bigint[], $11::bigint[]
    ) as ends (
        id, epoch, attempt_id, report, consistent_at, manifest_key, manifest, point_dump_bytes, point_stored_bytes, dump_bytes,
        stored_bytes
    )
),
owner as materialized (
    select id from lastgood.resources
    where id in (select run.resource_id from lastgood.runs as run join ending on ending.id = run.id)
    order by id
    for no key update
),
done as (
    update lastgood.runs as run
    set state = 'succeeded', lease_by = null, lease_until = null, error_kind = null, error = null, error_detail = null,
        finished_at = clock_timestamp(), result = ending.report, dump_bytes = ending.dump_bytes, stored_bytes = ending.stored_bytes
    from ending, owner
    where run.id = ending.id and run.epoch = ending.epoch and run.attempt_id = ending.attempt_id and run.state = 'running'
        and owner.id = run.resource_id
    returning run.id, run.resource_id, run.slot, run.attempt_id,
        -- A worker whose clock is ahead must not hide exposure: nothing is consistent to an instant yet to come. Nor did the attempt
        -- begin then, whatever the catalog's clock said.
        case when ending.consistent_at > clock_timestamp() then least(run.started_at, clock_timestamp()) else ending.consistent_at end
            as consistent_at,
        ending.manifest_key, ending.manifest, ending.point_dump_bytes, ending.point_stored_bytes
),
made as (
    select * from done where consistent_at is not null
),
point as (
    insert into lastgood.restore_points (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
    select id, resource_id, consistent_at, manifest_key, manifest, point_dump_bytes, point_stored_bytes
    from made order by manifest #>> '{archive,encryption,key}'
    on conflict (id) do nothing
    returning id, quarantined_at is null and suspected_at is null as counts
),
copy as (
    insert into lastgood.copies (point_id, store)
    select id, $12::text from made
    on conflict do nothing
),
newest as (
    -- Of a resource there is one dump at a time; should two end together, the later slot counts.
    select distinct on (resource_id) id, resource_id, slot,
        max(consistent_at) filter (where point.counts) over (partition by resource_id) as consistent_at
    from made left join point using (id) order by resource_id, slot desc nulls last
),
resource as (
    update lastgood.resources as r
    set newest_consistent_at = greatest(r.newest_consistent_at, newest.consistent_at),
        failures_in_a_row = 0,
        next_due_at = case when r.status = 'active' and r.cadence_minutes is not null then lastgood.next_due(
            r.cadence_minutes, r.spread, r.team_spread, now(),
            coalesce(newest.slot, '-infinity')
                >= lastgood.slot_start(r.cadence_minutes, r.spread, r.team_spread, now())
                or exists (
                    select from lastgood.runs as other
                    where other.resource_id = r.id and other.id <> newest.id
                        and other.kind = 'backup' and other.trigger = 'scheduled'
                        -- What an operator cancelled is not made up for at once.
                        and other.state in ('queued', 'running', 'succeeded', 'cancelled')
                        and other.slot = lastgood.slot_start(r.cadence_minutes, r.spread, r.team_spread, now())
                )
        ) else r.next_due_at end
    from newest
    where r.id = newest.resource_id
)
select attempt_id as "attempt_id!" from done
