-- The restore point of a run that was cancelled when its manifest was written already: it exists, so it is recorded, and the run
-- stays cancelled. $2, $9: the epoch and the id of the attempt that the cancellation ended. The resource is locked before the run, as a tick does.
-- As in a finish, a point whose key was shredded meanwhile can never be read, and nobody counts on one that its manifest calls suspect.
with owner as materialized (
    select id from lastgood.resources
    where id = (select resource_id from lastgood.runs where id = $1)
    for no key update
),
late as materialized (
    select run.id, run.resource_id,
        case when $3 > clock_timestamp() then least(run.started_at, clock_timestamp()) else $3 end as consistent_at
    from lastgood.runs as run join owner on owner.id = run.resource_id
    where run.id = $1 and run.epoch = $2::bigint + 1 and run.attempt_id = $9 and run.state = 'cancelled'
    for update of run
),
key as materialized (
    select k.shredded_at
    from late cross join lastgood.archive_keys as k
    where k.id::text = $5::jsonb #>> '{archive,encryption,key}'
    for share of k
),
lost as materialized (
    select count(*) > 0 as is_lost from key where shredded_at is not null
),
point as (
    insert into lastgood.restore_points
        (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes, quarantined_at, quarantined_because)
    select late.id, late.resource_id, late.consistent_at, $4::text, $5::jsonb, $6::bigint, $7::bigint,
        case when is_lost then now() end, case when is_lost then 'its key was shredded' end
    from late cross join lost
    on conflict (id) do nothing
),
copy as (
    insert into lastgood.copies (point_id, store) select id, $8 from late
    on conflict do nothing
),
resource as (
    update lastgood.resources as r
    set newest_consistent_at = greatest(
            r.newest_consistent_at, case when not is_lost and not lastgood.says_suspect($5::jsonb) then late.consistent_at end
        ),
        failures_in_a_row = 0
    from late cross join lost where r.id = late.resource_id
)
select count(*) as "recorded!" from late
