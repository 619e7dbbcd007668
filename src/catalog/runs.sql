-- The newest $3 runs, in state $1, of kind $2 and engine $5, created before $4 and from $6 on (null: any). The indexes by age leave out the
-- few that run, so that a claim need not write into each of them.
select id as "id!: RunId", resource_id as "resource!", queue as "engine!", kind as "kind!: RunKind", trigger as "trigger!: Trigger",
    slot as slot_at, state as "state!: RunState", attempt as "attempt!", max_attempts as "max_attempts!", run_at as "runnable_at!",
    lease_by as consumer, lease_until as lease_expires_at, error_kind, error, result as report, dump_bytes as "dump_bytes!",
    stored_bytes as "stored_bytes!", created_at as "created_at!", started_at, finished_at
from (
    (
        select * from lastgood.runs
        where state <> 'running' and $1::text is distinct from 'running' and ($1::text is null or state = $1)
            and ($2::text is null or kind = $2) and ($4::timestamptz is null or created_at < $4)
            and ($5::text is null or queue = $5) and ($6::timestamptz is null or created_at >= $6)
        order by created_at desc limit $3
    )
    union all
    select * from lastgood.runs
    where state = 'running' and ($1::text is null or state = $1)
        and ($2::text is null or kind = $2) and ($4::timestamptz is null or created_at < $4)
        and ($5::text is null or queue = $5) and ($6::timestamptz is null or created_at >= $6)
) as run
order by created_at desc limit $3
