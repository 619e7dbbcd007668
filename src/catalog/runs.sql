-- The newest $3 runs, in state $1, of kind $2 and engine $5, created before $4 and from $6 on (null: any).
select id, resource_id, queue as engine, kind, trigger, slot, state, attempt, max_attempts, run_at, lease_by, lease_until, error_kind, error,
    result, dump_bytes, stored_bytes, created_at, started_at, finished_at
from lastgood.runs
where ($1::text is null or state = $1) and ($2::text is null or kind = $2) and ($4::timestamptz is null or created_at < $4)
    and ($5::text is null or queue = $5) and ($6::timestamptz is null or created_at >= $6)
order by created_at desc limit $3
