-- The fenced end of an attempt that failed: back to the queue after a stored back-off, or failed for good. $3, $4: the
-- error. $5: permanent. $6: what the tool said. $7, $8: bytes
-- moved. $1, $2, $9: the attempt. The resource is locked before the run, as a tick does: what a failed backup means for it, a trigger says
-- (sql/functions/backups_fail.sql).
with owner as materialized (
    select id from lastgood.resources
    where id = (select resource_id from lastgood.runs where id = $1)
    for no key update
),
ended as (
    update lastgood.runs
    set state = case when $5 or attempt >= max_attempts then 'failed' else 'queued' end,
        run_at = case when $5 or attempt >= max_attempts then run_at
            else now() + least(interval '10 minutes', make_interval(secs => 5 * 2 ^ least(attempt - 1, 10))) * (0.75 + random() / 2) end,
        finished_at = case when $5 or attempt >= max_attempts then clock_timestamp() end,
        lease_by = null, lease_until = null, error_kind = $3, error = $4, error_detail = $6,
        dump_bytes = $7, stored_bytes = $8
    from owner
    where runs.id = $1 and runs.epoch = $2 and runs.attempt_id = $9 and runs.state = 'running' and owner.id = runs.resource_id
    returning runs.state
)
select state as "state!" from ended
