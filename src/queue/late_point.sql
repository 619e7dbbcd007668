-- The restore point of a run that was cancelled when its manifest was written already: it exists, so it is recorded, and the run
-- stays cancelled. $2, $9: the epoch and the id of the attempt that the cancellation ended. The resource is locked before the run, as a tick does.
-- As in a finish, nobody counts on a point that a trigger quarantines or suspects.
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
point as (
    insert into lastgood.restore_points (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
    select id, resource_id, consistent_at, $4::text, $5::jsonb, $6::bigint, $7::bigint from late
    on conflict (id) do nothing
    returning id, quarantined_at is null and suspected_at is null as counts
),
copy as (
    insert into lastgood.copies (point_id, store) select id, $8 from late
    on conflict do nothing
),
resource as (
    update lastgood.resources as r
    set newest_consistent_at = greatest(r.newest_consistent_at, case when point.counts then late.consistent_at end), failures_in_a_row = 0
    from late left join point using (id) where r.id = late.resource_id
)
select count(*) as "recorded!" from late
