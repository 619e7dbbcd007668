-- Appends a proof to the ledger and returns its number. Null: nothing was to be said. Idempotent: an attempt has one proof, and a second
-- call returns the number of the first.
--
-- Call it last in the transaction that finishes the run. It waits for its turn by the lock on the chain's row, which lasts until the
-- transaction ends. Nobody who has that lock waits for another one, so no two can wait for each other; a statement must not append two.
--
-- What is known of the point and its owner is read here. That an archive of an expired point cannot be read is no finding: it is being
-- removed.
create or replace function lastgood.record_proof(
    of_run uuid, of_attempt uuid, by_worker text, of_kind text, with_outcome text, why text, why_kind text, of_point uuid,
    took jsonb, with_comparison jsonb
) returns bigint
language plpgsql set lock_timeout = '5s' as $$
declare
    head lastgood.proof_chain;
    proof lastgood.proofs;
    expired timestamptz;
begin
    select run.resource_id, owner.team, owner.tier, owner.engine
    into strict proof.resource_id, proof.team, proof.tier, proof.engine
    from lastgood.runs as run join lastgood.resources as owner on owner.id = run.resource_id
    where run.id = of_run;
    select p.consistent_at, p.manifest #>> '{archive,blake3}', p.stored_bytes, p.dump_bytes, p.expired_at
    into proof.consistent_at, proof.archive_blake3, proof.archive_bytes, proof.dump_bytes, expired
    from lastgood.restore_points as p where p.id = of_point;
    if expired is not null and with_outcome <> 'proven' then
        return null;
    end if;
    select coalesce(jsonb_object_agg(phase.key, trim_scale(round(phase.value::numeric, 3))), '{}')
    into proof.seconds from jsonb_each(took) as phase;
    select * into strict head from lastgood.proof_chain for update;
    select earlier.number into proof.number from lastgood.proofs as earlier
    where earlier.run_id = of_run and earlier.attempt_id = of_attempt;
    if found then
        return proof.number;
    end if;
    proof.number := head.number + 1;
    proof.version := 1;
    proof.id := gen_random_uuid();
    proof.recorded_at := clock_timestamp();
    proof.kind := of_kind;
    proof.outcome := with_outcome;
    proof.because := why;
    proof.because_kind := why_kind;
    proof.point := of_point;
    proof.run_id := of_run;
    proof.attempt_id := of_attempt;
    proof.worker := by_worker;
    proof.compared := with_comparison;
    proof.previous_hash := head.hash;
    proof.hash := sha256(head.hash || convert_to(lastgood.proof_as_hashed(proof), 'UTF8'));
    insert into lastgood.proofs select proof.*;
    update lastgood.proof_chain set number = proof.number, hash = proof.hash;
    return proof.number;
end $$;
