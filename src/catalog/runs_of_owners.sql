-- The newest $4 runs of resource $1, or of the resources of team $6, in state $2, of kind $3 and engine $7, created before $5 and from $8 on
-- (null: any). Of each resource, no more are read by index than may be among them.
select newest.id as "id!", newest.resource_id as "resource!", newest.queue as "engine!", newest.kind as "kind!",
    newest.trigger as "trigger!", newest.slot as slot_at, newest.state as "state!", newest.attempt as "attempt!",
    newest.max_attempts as "max_attempts!", newest.run_at as "runnable_at!", newest.lease_by as consumer,
    newest.lease_until as lease_expires_at, newest.error_kind, newest.error, newest.result as report,
    newest.dump_bytes as "dump_bytes!", newest.stored_bytes as "stored_bytes!", newest.created_at as "created_at!",
    newest.started_at, newest.finished_at
from lastgood.resources as owner
cross join lateral (
    select * from lastgood.runs as run
    where run.resource_id = owner.id and ($2::text is null or run.state = $2) and ($3::text is null or run.kind = $3)
        and ($5::timestamptz is null or run.created_at < $5)
        and ($7::text is null or run.queue = $7) and ($8::timestamptz is null or run.created_at >= $8)
    order by run.created_at desc limit $4
) as newest
where ($1::text is null or owner.id = $1) and ($6::text is null or owner.team = $6)
order by newest.created_at desc limit $4
