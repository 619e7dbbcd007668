-- The fenced end of a run that succeeded: its outcome, its restore point and the resource's next due time, or nothing
-- at all where the epoch has moved on. $4 to $8 describe the restore point, null where the run made none. $9, $10: bytes
-- moved. $11: the store that the point is in. The resource is locked before the run, as a tick does, so that the two cannot
-- wait for each other. A point whose key was shredded while it was made can never be read: it is no restore point to count on, nor
-- is one that its manifest calls suspect.
-- The key is locked, for a shredding that is not committed yet is not seen otherwise; it has the resources before the keys.
with owner as materialized (
    select id from lastgood.resources
    where id = (select resource_id from lastgood.runs where id = $1)
    for no key update
),
done as (
    update lastgood.runs
    set state = 'succeeded', lease_by = null, lease_until = null, error_kind = null, error = null, error_detail = null,
        finished_at = clock_timestamp(), result = $3, dump_bytes = $9, stored_bytes = $10
    from owner
    where runs.id = $1 and runs.epoch = $2 and runs.state = 'running' and owner.id = runs.resource_id
    returning runs.id, runs.resource_id, runs.slot,
        -- A worker whose clock is ahead must not hide exposure: nothing is consistent to an instant yet to come.
        case when $4 > clock_timestamp() then runs.started_at else $4 end as consistent_at
),
key as materialized (
    select k.shredded_at
    from done cross join lastgood.archive_keys as k
    where k.id::text = $6::jsonb #>> '{archive,encryption,key}'
    for share of k
),
lost as materialized (
    select count(*) > 0 as is_lost from key where shredded_at is not null
),
point as (
    insert into lastgood.restore_points
        (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes, quarantined_at, quarantined_because)
    select done.id, done.resource_id, done.consistent_at, $5::text, $6::jsonb, $7::bigint, $8::bigint,
        case when is_lost then now() end, case when is_lost then 'its key was shredded' end
    from done cross join lost where done.consistent_at is not null
    on conflict (id) do nothing
),
copy as (
    insert into lastgood.copies (point_id, store)
    select done.id, $11::text from done where done.consistent_at is not null
    on conflict do nothing
),
resource as (
    update lastgood.resources as r
    set newest_consistent_at = greatest(
            r.newest_consistent_at, case when not is_lost and not lastgood.says_suspect($6::jsonb) then done.consistent_at end
        ),
        failures_in_a_row = 0,
        next_due_at = case when r.status = 'active' and r.cadence_minutes is not null then lastgood.next_due(
            r.cadence_minutes, r.spread, r.team_spread, now(),
            coalesce(done.slot, '-infinity')
                >= lastgood.slot_start(r.cadence_minutes, r.spread, r.team_spread, now())
                or exists (
                    select from lastgood.runs as other
                    where other.resource_id = r.id and other.id <> done.id
                        and other.kind = 'backup' and other.trigger = 'scheduled'
                        -- What an operator cancelled is not made up for at once.
                        and other.state in ('queued', 'running', 'succeeded', 'cancelled')
                        and other.slot = lastgood.slot_start(r.cadence_minutes, r.spread, r.team_spread, now())
                )
        ) else r.next_due_at end
    from done cross join lost
    where r.id = done.resource_id and done.consistent_at is not null
)
select count(*) as "finished!" from done
