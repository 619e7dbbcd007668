-- Refuses every change of the ledger of proofs but a new row at its end, whoever asks, the owner and superusers included. Who can disable
-- triggers can still do it: `lastgood proof check` and the hash in each signed export show that somebody did.
create or replace function lastgood.proofs_stay() returns trigger language plpgsql as $$
begin
    raise exception 'the ledger of proofs is append-only: % of lastgood.% is refused', lower(tg_op), tg_table_name
        using errcode = 'insufficient_privilege', hint = 'a wrong proof is answered by a newer one';
end $$;

-- The head goes forward by one.
create or replace function lastgood.proof_chain_goes_on() returns trigger language plpgsql as $$
begin
    if new.number is distinct from old.number + 1 then
        raise exception 'the ledger of proofs is append-only: its head goes from % to %, not to %', old.number, old.number + 1, new.number
            using errcode = 'insufficient_privilege';
    end if;
    return new;
end $$;

-- Made once, as another role than the one that migrates may own these tables by then (deploy/grants/ledger.sql). `always`: a session that
-- calls itself a replica is no exception.
do $$
begin
    if not exists (select from pg_trigger where tgrelid = 'lastgood.proofs'::regclass and tgname = 'proofs_stay') then
        create trigger proofs_stay before update or delete or truncate on lastgood.proofs
            for each statement execute function lastgood.proofs_stay();
        alter table lastgood.proofs enable always trigger proofs_stay;
        create trigger proof_chain_stays before delete or truncate on lastgood.proof_chain
            for each statement execute function lastgood.proofs_stay();
        alter table lastgood.proof_chain enable always trigger proof_chain_stays;
        create trigger proof_chain_goes_on before update on lastgood.proof_chain
            for each row execute function lastgood.proof_chain_goes_on();
        alter table lastgood.proof_chain enable always trigger proof_chain_goes_on;
    end if;
end $$;
