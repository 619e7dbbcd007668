-- Takes at most $2 runnable runs of queue $1, with priorities from $7 to $8, for worker $3, with a lease of $4, within the limits: $5
-- runs of one team, $6 dumps of one server. migrations/0004_operations.sql has the function, and docs/queue.md its order.
select
    id as "id!", resource_id as "resource_id!", kind as "kind!", slot, attempt as "attempt!", epoch as "epoch!",
    attempt_id as "attempt_id!", created_at as "created_at!", args as "args!"
from lastgood.claim($1, $2, $3, $4, $5, $6, $7, $8)
