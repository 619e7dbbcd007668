-- Which master key sealed what, and is a key at hand the one that seals this catalog?

-- The keys themselves are nowhere in the catalog: each has a number here, and a proof.
create table lastgood.master_keys (
    number integer primary key
        constraint master_keys_are_counted_from_one check (number > 0),
    -- A known text, sealed under the key with a nonce of its own: it opens with that key alone, and says no more of the key than any
    -- other sealed row does. Null: nobody has shown the key since there are proofs.
    proof bytea,
    -- New secrets are sealed under this one.
    seals boolean not null default false,
    added_at timestamptz not null default now()
);
create unique index master_keys_one_seals on lastgood.master_keys (seals) where seals;
insert into lastgood.master_keys (number, seals) values (1, true);

-- Under which of them a row is sealed. A row without a secret has a number too, which says nothing.
alter table lastgood.resources add column sealed_under integer not null default 1;
alter table lastgood.archive_keys add column sealed_under integer not null default 1;
create index resources_sealed_under on lastgood.resources (sealed_under, id) where connection_sealed is not null;

-- The master keys that a consumer has, by their numbers; null: it is older than the numbers.
alter table lastgood.consumers add column master_keys integer[];

-- Nothing is stored that was sealed under a key that another one has replaced. The lock makes a rotation wait for whoever is about to
-- store something under the old key, so that the rotation counts it.
create function lastgood.is_sealed_under_the_key_in_force() returns trigger language plpgsql as $$
begin
    perform 1 from lastgood.master_keys where number = new.sealed_under and seals for share;
    if not found then
        raise exception 'master key % has been replaced: nothing new is sealed under it', new.sealed_under
            using errcode = 'integrity_constraint_violation', constraint = 'sealed_under_the_key_in_force';
    end if;
    return null;
end $$;

create trigger resources_sealed_new after insert on lastgood.resources
    for each row when (new.connection_sealed is not null)
    execute function lastgood.is_sealed_under_the_key_in_force();
create trigger resources_sealed_anew after update of connection_sealed on lastgood.resources
    for each row when (new.connection_sealed is not null and new.connection_sealed is distinct from old.connection_sealed)
    execute function lastgood.is_sealed_under_the_key_in_force();
create trigger archive_keys_sealed_new after insert on lastgood.archive_keys
    for each row when (new.identity_sealed is not null)
    execute function lastgood.is_sealed_under_the_key_in_force();
create trigger archive_keys_sealed_anew after update of identity_sealed on lastgood.archive_keys
    for each row when (new.identity_sealed is not null and new.identity_sealed is distinct from old.identity_sealed)
    execute function lastgood.is_sealed_under_the_key_in_force();
