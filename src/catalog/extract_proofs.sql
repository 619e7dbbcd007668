-- The proofs of team $1 that were recorded from $2 on and before $3, in order.
select number, version, id, recorded_at, kind, outcome, because, because_kind, resource_id as resource, team, tier, engine,
    point, consistent_at, archive_blake3, archive_bytes, dump_bytes, run_id as run, attempt_id, worker as consumer,
    seconds, compared, encode(previous_hash, 'hex') as "previous_hash!", encode(hash, 'hex') as "hash!"
from lastgood.proofs
where team = $1 and recorded_at >= $2 and recorded_at < $3
order by number
