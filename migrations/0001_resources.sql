-- What is protected, and what is promised about it.
--
-- The catalog needs PostgreSQL 14 or later. Everything lives in one schema, so that a database may be shared with other services. Stored
-- names are promises: queues, kinds, states and triggers may be added, never renamed. Functions and their triggers are not here: each has
-- a file in sql/functions, which `lastgood migrate` applies after the migrations.

create schema if not exists lastgood;

-- Checks run for every row of a large tick: a bounded repetition (`{0,127}`) in a regular expression would cost ten times as much.
create table lastgood.resources (
    id text primary key
        constraint resources_id_is_a_name check (length(id) <= 128 and id ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$' and strpos(id, '..') = 0),
    team text not null
        constraint resources_team_is_a_name check (length(team) <= 128 and team ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$' and strpos(team, '..') = 0),
    tier text not null
        constraint resources_tier_is_a_name check (length(tier) <= 128 and tier ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$' and strpos(tier, '..') = 0),
    engine text not null
        constraint resources_engine_is_a_word check (length(engine) <= 32 and engine ~ '^[a-z][a-z0-9_]*$'),
    status text not null default 'active'
        constraint resources_status_is_known check (status in ('active', 'paused', 'removed')),
    retention_days integer,
    connection_ref text
        constraint resources_connection_ref_is_a_reference check (connection_ref ~ '^(env:[A-Za-z_][A-Za-z0-9_]*|file:/.+)$'),
    connection_sealed bytea,
    sealed_under integer not null default 1,
    options jsonb not null default '{}'
        constraint resources_options_are_an_object check (jsonb_typeof(options) = 'object'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    spread integer not null generated always as (('x' || substr(md5(id), 1, 7))::bit(28)::integer) stored,
    team_spread integer not null generated always as (('x' || substr(md5(team), 1, 7))::bit(28)::integer) stored,
    cadence_minutes integer
        constraint resources_cadence_is_possible check (cadence_minutes between 5 and 1440),
    next_due_at timestamptz,
    newest_consistent_at timestamptz,
    exposed_since timestamptz not null generated always as (coalesce(newest_consistent_at, created_at)) stored,
    failures_in_a_row integer not null default 0
        constraint resources_failures_count check (failures_in_a_row >= 0),
    proven_at timestamptz,
    server text
        constraint resources_server_is_a_host check (length(server) between 1 and 1024 and server = lower(server) and strpos(server, '@') = 0),
    transport text
        constraint resources_transport_is_short check (length(transport) between 1 and 500),
    -- A resource that was rebuilt from manifests has no connection, for manifests hold no secret. It is paused until it gets one.
    constraint resources_one_connection check (
        num_nonnulls(connection_ref, connection_sealed) = 1
        or (num_nonnulls(connection_ref, connection_sealed) = 0 and status in ('paused', 'removed'))
    )
) with (fillfactor = 80);

comment on table lastgood.resources is 'The protected databases.';
comment on column lastgood.resources.retention_days is 'Overrides the tier''s retention. Zero or less vetoes backups.';
comment on column lastgood.resources.connection_ref is 'Where the URL is: env:NAME or file:/path. Never a URL.';
comment on column lastgood.resources.connection_sealed is 'The URL, sealed under a master key.';
comment on column lastgood.resources.sealed_under is 'The number of that master key. Means nothing without a sealed URL.';
comment on column lastgood.resources.options is 'What the owner chose about its backups. Which engine has which options is the service''s business.';
comment on column lastgood.resources.spread is 'A stable hash that spreads resources within their slots.';
comment on column lastgood.resources.team_spread is 'A stable hash that spreads teams over the hours of a long slot.';
comment on column lastgood.resources.cadence_minutes is 'The cadence that the producer last applied. Null: not backed up, or not planned yet.';
comment on column lastgood.resources.next_due_at is 'When the producer looks at the resource again. Null: not until the row or the plans change.';
comment on column lastgood.resources.newest_consistent_at is 'The newest instant that it can be restored to.';
comment on column lastgood.resources.exposed_since is 'Since when a failure would lose everything.';
comment on column lastgood.resources.failures_in_a_row is 'Scheduled backups that have failed since the last success.';
comment on column lastgood.resources.proven_at is 'When one of its trusted points was last read back and found whole. Kept by a trigger.';
comment on column lastgood.resources.server is 'host:port, as the consumer that last worked for it learned it. Never a secret.';
comment on column lastgood.resources.transport is
    '''verified'', ''local'', or why nobody should rely on the way to its server. Never a part of the URL.';

create index resources_due on lastgood.resources (next_due_at) where status = 'active' and next_due_at is not null;
create index resources_planned on lastgood.resources (tier, cadence_minutes, next_due_at) where status = 'active';
create index resources_exposed on lastgood.resources (tier, exposed_since)
    where status = 'active' and coalesce(retention_days, 1) > 0;
create index resources_never_backed_up on lastgood.resources (tier, created_at)
    where status = 'active' and coalesce(retention_days, 1) > 0 and newest_consistent_at is null;
create index resources_suspended on lastgood.resources (tier)
    where status = 'paused' or (status = 'active' and retention_days <= 0);
create index resources_unproven on lastgood.resources (engine, proven_at nulls first, id) where newest_consistent_at is not null;
create index resources_team on lastgood.resources (team);
create index resources_sealed_under on lastgood.resources (sealed_under, id) where connection_sealed is not null;
create index resources_unverified on lastgood.resources (team, id)
    where transport not in ('verified', 'local') and status <> 'removed';

create table lastgood.plans_on_record (
    is_only boolean primary key default true
        constraint plans_on_record_is_one_row check (is_only),
    known text[] not null,
    tiers text[] not null,
    cadences integer[] not null,
    rpos integer[] not null,
    recorded_at timestamptz not null default now(),
    constraint plans_on_record_are_of_one_length
        check (cardinality(tiers) = cardinality(cadences) and cardinality(tiers) = cardinality(rpos))
);

comment on table lastgood.plans_on_record is
    'What the last producer with a plans file planned by. A producer that has lost its file goes by this where its built-in plans know less.';
comment on column lastgood.plans_on_record.known is 'Every tier of the file.';
comment on column lastgood.plans_on_record.tiers is 'The tiers that are backed up.';
comment on column lastgood.plans_on_record.cadences is 'Their cadences, in minutes, in the same order.';
comment on column lastgood.plans_on_record.rpos is 'Their RPOs, in minutes, in the same order.';

create table lastgood.dump_limits (
    tier text primary key,
    maximum_dump_bytes bigint not null
        constraint dump_limits_are_positive check (maximum_dump_bytes > 0)
);

comment on table lastgood.dump_limits is
    'How large a tier''s dumps may be. Producers write it from their plans file for consumers, who have none. A tier without a row has no limit.';

create table lastgood.retention (
    resource_id text primary key references lastgood.resources (id) on delete cascade,
    record jsonb
        constraint retention_record_is_an_object check (jsonb_typeof(record) = 'object'),
    look_at timestamptz not null default now()
);

comment on table lastgood.retention is
    'What is and was promised about each resource''s restore points. A changed promise shortens retention only after a grace period.';
comment on column lastgood.retention.record is 'The promises, as retention last saw them.';
comment on column lastgood.retention.look_at is 'When retention looks at the resource again.';

create index retention_due on lastgood.retention (look_at);
