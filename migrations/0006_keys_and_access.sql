-- Keys and access: what secrets are sealed under, what archives are encrypted to, who may ask for what, and who did what.

create table lastgood.master_keys (
    number integer primary key
        constraint master_keys_are_counted_from_one check (number > 0),
    proof bytea,
    seals boolean not null default false,
    added_at timestamptz not null default now()
);

comment on table lastgood.master_keys is 'The master keys by number. The keys themselves are nowhere in the catalog.';
comment on column lastgood.master_keys.proof is
    'A known text, sealed under the key with a nonce of its own: it opens with that key alone. Null: nobody has shown the key yet.';
comment on column lastgood.master_keys.seals is 'New secrets are sealed under this one.';

create unique index master_keys_one_seals on lastgood.master_keys (seals) where seals;
insert into lastgood.master_keys (number, seals) values (1, true);

create table lastgood.archive_keys (
    id uuid primary key default gen_random_uuid(),
    team text
        constraint archive_keys_team_is_a_name check (length(team) <= 128 and team ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$' and strpos(team, '..') = 0),
    recipient text not null unique
        constraint archive_keys_recipient_is_age check (recipient ~ '^age1[0-9a-z]+$'),
    identity_sealed bytea,
    sealed_under integer not null default 1,
    created_at timestamptz not null default now(),
    retired_at timestamptz,
    shredded_at timestamptz,
    constraint archive_keys_shredded_has_no_identity check ((identity_sealed is null) = (shredded_at is not null)),
    constraint archive_keys_shredded_is_retired check (shredded_at is null or retired_at is not null)
);

comment on table lastgood.archive_keys is
    'The age key pairs that archives are encrypted to: one after another for each team that has its own, and for the platform.';
comment on column lastgood.archive_keys.team is 'Null: the platform''s, which is every other team''s.';
comment on column lastgood.archive_keys.identity_sealed is 'The secret half, sealed under a master key. Null: shredded.';
comment on column lastgood.archive_keys.sealed_under is 'The number of that master key.';
comment on column lastgood.archive_keys.retired_at is
    'Archives made since then use the next key. This one still opens those made before.';

create unique index archive_keys_one_in_use on lastgood.archive_keys (coalesce(team, '')) where retired_at is null;

create table lastgood.tokens (
    id uuid primary key,
    name text not null
        constraint tokens_name_is_a_name check (length(name) <= 128 and name ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$' and strpos(name, '..') = 0),
    hash bytea not null
        constraint tokens_hash_is_blake3 check (length(hash) = 32),
    scopes text[] not null
        constraint tokens_scopes_are_known check (
            cardinality(scopes) > 0 and scopes <@ array['read', 'enqueue', 'restore', 'admin']
        ),
    team text
        constraint tokens_team_is_a_name check (length(team) <= 128 and team ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$' and strpos(team, '..') = 0),
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);

comment on table lastgood.tokens is 'The bearer tokens of the HTTP API. A token''s secret is shown once and is not here.';
comment on column lastgood.tokens.hash is 'The BLAKE3 of the token.';
comment on column lastgood.tokens.team is 'Bound to a team, it neither sees nor touches another''s. Null: bound to none.';
comment on column lastgood.tokens.last_used_at is 'To the minute.';

-- A name in the audit log is one token's.
create unique index tokens_name_in_use on lastgood.tokens (name) where revoked_at is null;

create table lastgood.audit (
    id bigint primary key generated always as identity,
    at timestamptz not null default clock_timestamp(),
    actor text not null,
    action text not null
        constraint audit_action_is_a_word check (action ~ '^[a-z][a-z_]*$'),
    resource_id text,
    point_id uuid,
    detail jsonb not null default '{}'
        constraint audit_detail_is_an_object check (jsonb_typeof(detail) = 'object')
);

comment on table lastgood.audit is 'Who did what that cannot be taken back, or that somebody may ask about.';
comment on column lastgood.audit.actor is 'The user of the machine, the token, or sql: and the role.';

create index audit_history on lastgood.audit (at desc);
