-- The ledger of proofs: what drills, verifications and restores have shown about restore points, each row chained to the one before it.
-- docs/reference/proofs.md specifies what is hashed. Rows are written by lastgood.record_proof alone, and stay (sql/functions/proofs_stay.sql).

create table lastgood.proofs (
    number bigint primary key
        constraint proofs_are_counted_from_one check (number > 0),
    version smallint not null
        constraint proofs_version_is_known check (version = 1),
    id uuid not null unique,
    recorded_at timestamptz not null,
    kind text not null
        constraint proofs_kind_is_known check (kind in ('drill', 'verification', 'restore')),
    outcome text not null
        constraint proofs_outcome_is_known check (outcome in ('proven', 'differs', 'failed', 'not_possible')),
    because text
        constraint proofs_because_is_bounded check (octet_length(because) between 1 and 8192),
    because_kind text
        constraint proofs_because_kind_is_a_word check (length(because_kind) <= 64 and because_kind ~ '^[a-z][a-z0-9_]*$'),
    resource_id text not null,
    team text not null,
    tier text not null,
    engine text not null,
    point uuid not null,
    consistent_at timestamptz,
    archive_blake3 text
        constraint proofs_archive_is_hashed check (archive_blake3 ~ '^[0-9a-f]{64}$'),
    archive_bytes bigint,
    dump_bytes bigint,
    run_id uuid not null,
    attempt_id uuid not null,
    worker text not null,
    seconds jsonb not null
        constraint proofs_seconds_are_an_object check (jsonb_typeof(seconds) = 'object')
        constraint proofs_seconds_are_bounded check (octet_length(seconds::text) <= 4096),
    compared jsonb not null
        constraint proofs_comparison_is_an_object check (jsonb_typeof(compared) = 'object')
        constraint proofs_comparison_is_bounded check (octet_length(compared::text) <= 262144)
        -- Any reader of JSON must print the number that it read as it was, or it could not compute the hash.
        constraint proofs_comparison_counts check (
            not jsonb_path_exists(compared, '$.** ? (@.type() == "number" && (@ != @.floor() || @.abs() > 9007199254740991))')
        ),
    previous_hash bytea not null
        constraint proofs_previous_hash_is_sha256 check (length(previous_hash) = 32),
    hash bytea not null unique
        constraint proofs_hash_is_sha256 check (length(hash) = 32),
    constraint proofs_all_but_proven_say_why check (num_nonnulls(because, because_kind) = case when outcome = 'proven' then 0 else 2 end)
);

comment on table lastgood.proofs is
    'What was proven about restore points, and what was not: an append-only chain. It outlives resources, points and runs.';
comment on column lastgood.proofs.number is 'The position in the chain, from 1, without gaps.';
comment on column lastgood.proofs.version is 'Of what is hashed, and how.';
comment on column lastgood.proofs.because is 'Why the point was not proven, for people.';
comment on column lastgood.proofs.because_kind is 'The same in a stable word.';
comment on column lastgood.proofs.resource_id is 'Not a reference, like every id here. Team and tier are those of the time.';
comment on column lastgood.proofs.consistent_at is 'Of the restore point. Null, as are the archive''s facts: it was not on record any more.';
comment on column lastgood.proofs.attempt_id is 'The attempt that found it. One attempt writes one proof.';
comment on column lastgood.proofs.seconds is 'How long each phase took, to the millisecond.';
comment on column lastgood.proofs.compared is 'What was compared, or read.';
comment on column lastgood.proofs.previous_hash is 'The hash of the row before; zeroes in the first.';
comment on column lastgood.proofs.hash is 'SHA-256 of the previous hash and this row.';

create unique index proofs_one_of_an_attempt on lastgood.proofs (run_id, attempt_id);
create index proofs_of_a_resource on lastgood.proofs (resource_id, recorded_at desc);
create index proofs_of_a_team on lastgood.proofs (team, recorded_at desc);
create index proofs_newest on lastgood.proofs (recorded_at desc);
create index proofs_unproven on lastgood.proofs (recorded_at desc) where outcome <> 'proven';

-- Owners have these rights unless they give them up. A trigger refuses the rest.
revoke update, delete, truncate on lastgood.proofs from current_user;

create table lastgood.proof_chain (
    only_row boolean primary key default true
        constraint proof_chain_is_one_row check (only_row),
    number bigint not null
        constraint proof_chain_counts check (number >= 0),
    hash bytea not null
        constraint proof_chain_hash_is_sha256 check (length(hash) = 32)
);

comment on table lastgood.proof_chain is
    'The head of the chain of proofs. Who appends to it takes turns by the lock on its row, after every other lock.';
comment on column lastgood.proof_chain.number is 'How many proofs there are.';
comment on column lastgood.proof_chain.hash is 'The hash of the last of them; zeroes if there is none.';

insert into lastgood.proof_chain (number, hash) values (0, decode(repeat('00', 32), 'hex'));

create table lastgood.signing_keys (
    id uuid primary key,
    public_key bytea not null unique
        constraint signing_keys_public_key_is_ed25519 check (length(public_key) = 32),
    seed_sealed bytea,
    sealed_under integer not null,
    created_at timestamptz not null default now(),
    retired_at timestamptz,
    constraint signing_keys_retired_has_no_seed check ((seed_sealed is null) = (retired_at is not null))
);

comment on table lastgood.signing_keys is 'The Ed25519 keys that sign exports of the ledger, one after another. Public halves stay.';
comment on column lastgood.signing_keys.seed_sealed is 'The private half, sealed under a master key. Null: retired, and so destroyed.';
comment on column lastgood.signing_keys.sealed_under is 'The number of that master key.';
comment on column lastgood.signing_keys.retired_at is 'Exports made since then are signed with the next key.';

create unique index signing_keys_one_in_use on lastgood.signing_keys ((true)) where retired_at is null;
