-- Refuses a secret that was sealed under a master key that another one has replaced. The lock makes a rotation wait for whoever is about to
-- store something under the old key, so that the rotation counts it.
create or replace function lastgood.is_sealed_under_the_key_in_force() returns trigger language plpgsql as $$
begin
    perform 1 from lastgood.master_keys where number = new.sealed_under and seals for share;
    if not found then
        raise exception 'master key % has been replaced: nothing new is sealed under it', new.sealed_under
            using errcode = 'integrity_constraint_violation', constraint = 'sealed_under_the_key_in_force';
    end if;
    return null;
end $$;

create or replace trigger resources_sealed_new after insert on lastgood.resources
    for each row when (new.connection_sealed is not null)
    execute function lastgood.is_sealed_under_the_key_in_force();

create or replace trigger resources_sealed_anew after update of connection_sealed on lastgood.resources
    for each row when (new.connection_sealed is not null and new.connection_sealed is distinct from old.connection_sealed)
    execute function lastgood.is_sealed_under_the_key_in_force();

create or replace trigger archive_keys_sealed_new after insert on lastgood.archive_keys
    for each row when (new.identity_sealed is not null)
    execute function lastgood.is_sealed_under_the_key_in_force();

create or replace trigger archive_keys_sealed_anew after update of identity_sealed on lastgood.archive_keys
    for each row when (new.identity_sealed is not null and new.identity_sealed is distinct from old.identity_sealed)
    execute function lastgood.is_sealed_under_the_key_in_force();

create or replace trigger signing_keys_sealed_new after insert on lastgood.signing_keys
    for each row execute function lastgood.is_sealed_under_the_key_in_force();

create or replace trigger signing_keys_sealed_anew after update of seed_sealed on lastgood.signing_keys
    for each row when (new.seed_sealed is not null and new.seed_sealed is distinct from old.seed_sealed)
    execute function lastgood.is_sealed_under_the_key_in_force();
