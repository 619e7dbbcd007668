-- Returns what is hashed of a proof: all of it but its two hashes, as JSON, with the names that the API uses. No setting of the session
-- changes it. docs/reference/proofs.md specifies it, and src/proof/canonical.rs does the same.
create or replace function lastgood.proof_as_hashed(proof lastgood.proofs) returns text
language sql stable parallel safe as $$
    select lastgood.canonical_json(jsonb_build_object(
        'version', proof.version,
        'number', proof.number,
        'id', proof.id,
        'recorded_at', to_char(proof.recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'kind', proof.kind,
        'outcome', proof.outcome,
        'because', proof.because,
        'because_kind', proof.because_kind,
        'resource', proof.resource_id,
        'team', proof.team,
        'tier', proof.tier,
        'engine', proof.engine,
        'point', proof.point,
        'consistent_at', to_char(proof.consistent_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'archive_blake3', proof.archive_blake3,
        'archive_bytes', proof.archive_bytes,
        'dump_bytes', proof.dump_bytes,
        'run', proof.run_id,
        'attempt_id', proof.attempt_id,
        'consumer', proof.worker,
        'seconds', proof.seconds,
        'compared', proof.compared
    ))
$$;
