-- Takes runnable runs for worker $5, with a lease of $6, within the limits: $7 runs of one team, $8 dumps of one server. A list for each
-- of what its lanes differ in: at most $2 of queue $1, with priorities from $3 to $4. $9: the attempts' ids. sql/functions/claim.sql does it,
-- docs/explanation/queue.md states the order and the limits.
select
    id as "id!: RunId", queue as "queue!", priority as "priority!: Priority", resource_id as "resource_id!", kind as "kind!", slot,
    attempt as "attempt!", epoch as "epoch!: Epoch", attempt_id as "attempt_id!: AttemptId", created_at as "created_at!",
    args as "args!"
from lastgood.claim_all($1, $2, $3, $4, $5, $6, $7, $8, $9)
