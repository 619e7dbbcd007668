-- Takes at most $2 runnable runs of queue $1 with priorities from $5 to $6 for worker $3, with a lease of $4.
with next as materialized (
    select id from lastgood.runs
    where queue = $1 and priority between $5 and $6 and state = 'queued' and run_at <= now() and attempt < max_attempts
    order by priority desc, run_at
    limit $2
    for update skip locked
)
update lastgood.runs as run
set state = 'running', attempt = run.attempt + 1, epoch = run.epoch + 1,
    lease_by = $3, lease_until = now() + $4, started_at = clock_timestamp(),
    dump_bytes = 0, stored_bytes = 0
from next
where run.id = next.id
returning run.id, run.resource_id, run.kind, run.slot, run.attempt, run.epoch, run.created_at, run.args
