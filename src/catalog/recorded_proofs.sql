-- The newest $7 proofs of resource $1, team $2, kind $3 and outcome $4, recorded from $5 on and before $6 (null: any).
select number, version, id, recorded_at, kind, outcome, because, because_kind, resource_id as resource, team, tier, engine,
    point, consistent_at, archive_blake3, archive_bytes, dump_bytes, run_id as run, attempt_id, worker as consumer,
    seconds, compared, encode(previous_hash, 'hex') as "previous_hash!", encode(hash, 'hex') as "hash!"
from lastgood.proofs
where ($1::text is null or resource_id = $1)
    and ($2::text is null or team = $2)
    and ($3::text is null or kind = $3)
    and ($4::text is null or outcome = $4 and ($4 = 'proven' or outcome <> 'proven'))
    and recorded_at >= coalesce($5, '-infinity'::timestamptz) and recorded_at < coalesce($6, 'infinity'::timestamptz)
order by recorded_at desc, number desc limit $7
