-- The catalog: what is protected, what was asked for, what can be restored, who does the work.
-- PostgreSQL 14 or later. Everything lives in one schema, so that a database may be shared with other services.
-- Stored names are promises: queues, kinds, states and triggers may be added, never renamed.

create schema if not exists lastgood;

-- ── schedule arithmetic ─────────────────────────────────────────────────────────────────────────────────────────────
-- The same rules as src/schedule.rs, which is their specification; a test holds the two together.

-- How far into each clock window a resource has its turn.
create function lastgood.slot_offset(cadence_minutes integer, spread integer, team_spread integer) returns interval
language sql immutable parallel safe
return case
    when cadence_minutes <= 60 then make_interval(secs => spread % (cadence_minutes * 60))
    else make_interval(hours => team_spread % (cadence_minutes / 60), secs => spread % 3600)
end;

-- The slot that a resource is in at `at`: it lasts from its turn to its next turn, and is named by the clock window in UTC
-- that its turn is in. Stable, as arithmetic on times with zones is: declared immutable it would not be inlined, and a
-- tick of many resources would take twice as long.
create function lastgood.slot_start(cadence_minutes integer, spread integer, team_spread integer, at timestamptz)
returns timestamptz
language sql stable parallel safe
return date_bin(
    make_interval(mins => cadence_minutes),
    at - lastgood.slot_offset(cadence_minutes, spread, team_spread),
    timestamptz '2000-01-01 00:00:00+00'
);

-- When a backup is next due, seen from `at`. `slot_taken`: the slot of `at` has a queued, running or succeeded backup.
create function lastgood.next_due(
    cadence_minutes integer, spread integer, team_spread integer, at timestamptz, slot_taken boolean
) returns timestamptz
language sql stable parallel safe
return case
    when slot_taken then lastgood.slot_start(cadence_minutes, spread, team_spread, at)
        + lastgood.slot_offset(cadence_minutes, spread, team_spread) + make_interval(mins => cadence_minutes)
    else at
end;

-- How long a slot that failed waits before it is tried again.
create function lastgood.retry_delay(failures integer, cadence_minutes integer) returns interval
language sql immutable parallel safe
return least(
    make_interval(mins => (2 ^ least(greatest(failures, 1) - 1, 10))::integer),
    make_interval(mins => cadence_minutes),
    interval '1 hour'
);

-- ── resources ───────────────────────────────────────────────────────────────────────────────────────────────────────

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
    -- Overrides the tier's retention; zero or less vetoes backups.
    retention_days integer,
    -- Where the secret is (`env:NAME`, `file:/path`), or the secret itself, sealed. Never a URL in clear.
    connection_ref text
        constraint resources_connection_ref_is_a_reference check (connection_ref ~ '^(env:[A-Za-z_][A-Za-z0-9_]*|file:/.+)$'),
    connection_sealed bytea,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- Stable hashes that spread the work: of the resource within its slot, of the team over the hours of a long slot.
    spread integer not null generated always as (('x' || substr(md5(id), 1, 7))::bit(28)::integer) stored,
    team_spread integer not null generated always as (('x' || substr(md5(team), 1, 7))::bit(28)::integer) stored,
    -- The producer's notes: the cadence it last applied (null: not backed up, or not planned yet), and when to look again
    -- (null: not until the row or the plans change).
    cadence_minutes integer
        constraint resources_cadence_is_possible check (cadence_minutes between 5 and 1440),
    next_due_at timestamptz,
    -- The newest restorable instant, and how many backups in a row have failed since.
    newest_consistent_at timestamptz,
    failures_in_a_row integer not null default 0
        constraint resources_failures_count check (failures_in_a_row >= 0),
    constraint resources_one_connection check (num_nonnulls(connection_ref, connection_sealed) = 1)
) with (fillfactor = 80);

create index resources_due on lastgood.resources (next_due_at) where status = 'active' and next_due_at is not null;
create index resources_by_tier on lastgood.resources (tier) where status = 'active';

-- A row that is new, or whose promise changed, is looked at in the next tick, whoever wrote it.
create function lastgood.resources_touch() returns trigger language plpgsql as $$
begin
    new.updated_at := now();
    -- Without a cadence no run that ends meanwhile moves the next due time by a promise that holds no more.
    new.cadence_minutes := null;
    new.next_due_at := case when new.status = 'active' then now() end;
    return new;
end $$;

create trigger resources_new before insert on lastgood.resources
    for each row when (new.next_due_at is null) execute function lastgood.resources_touch();
create trigger resources_changed before update of team, tier, status, engine, retention_days on lastgood.resources
    for each row when (
        (old.team, old.tier, old.status, old.engine) is distinct from (new.team, new.tier, new.status, new.engine)
        or old.retention_days is distinct from new.retention_days
    ) execute function lastgood.resources_touch();

-- ── runs: the queue and its history ─────────────────────────────────────────────────────────────────────────────────

create table lastgood.runs (
    id uuid primary key default gen_random_uuid(),
    -- One queue per engine, of the same name.
    queue text not null
        constraint runs_queue_is_a_word check (length(queue) <= 32 and queue ~ '^[a-z][a-z0-9_]*$'),
    kind text not null
        constraint runs_kind_is_known check (kind in ('backup', 'restore', 'drop_replaced')),
    trigger text not null
        constraint runs_trigger_is_known check (trigger in ('scheduled', 'adhoc')),
    resource_id text not null references lastgood.resources (id),
    -- The start of the cadence window that a scheduled backup covers. Missed windows coalesce: while a run still waits,
    -- its slot moves forward.
    slot timestamptz,
    idempotency_key text
        constraint runs_idempotency_key_is_short check (length(idempotency_key) between 1 and 255),
    args jsonb not null
        constraint runs_args_are_an_object check (jsonb_typeof(args) = 'object'),
    state text not null default 'queued'
        constraint runs_state_is_known check (state in ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    priority smallint not null default 0,
    run_at timestamptz not null default now(),
    attempt integer not null default 0,
    max_attempts integer not null default 5,
    -- The fencing token: whoever holds an older one can neither publish nor finish.
    epoch bigint not null default 0,
    lease_by text,
    lease_until timestamptz,
    error_kind text,
    error text,
    result jsonb,
    dump_bytes bigint not null default 0,
    stored_bytes bigint not null default 0,
    created_at timestamptz not null default clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    constraint runs_attempts_are_bounded check (attempt between 0 and max_attempts),
    -- Else one such row would make every claim of its queue fail.
    constraint runs_queued_can_be_attempted check (state <> 'queued' or attempt < max_attempts),
    constraint runs_epoch_counts check (epoch >= attempt),
    constraint runs_lease_iff_running
        check (case when state = 'running' then num_nonnulls(lease_by, lease_until) = 2 else num_nonnulls(lease_by, lease_until) = 0 end),
    constraint runs_finished_iff_ended check ((state in ('succeeded', 'failed', 'cancelled')) = (finished_at is not null)),
    constraint runs_failure_says_why check (state <> 'failed' or num_nonnulls(error_kind, error) = 2),
    constraint runs_slot_iff_scheduled check ((trigger = 'scheduled') = (slot is not null)),
    constraint runs_only_backups_are_scheduled check (trigger <> 'scheduled' or kind = 'backup')
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

-- The promise that no slot is backed up twice: two producers, a restart, a late tick, all are no-ops against it.
create unique index runs_one_per_slot on lastgood.runs (resource_id, slot)
    where kind = 'backup' and trigger = 'scheduled' and state in ('queued', 'running', 'succeeded');
-- One live scheduled backup per resource: a backup that outlasts its slot is not joined by a second dump of the same
-- database, and a backlog is as long as the resources are many, not as the outage was long.
create unique index runs_one_live_schedule on lastgood.runs (resource_id)
    where kind = 'backup' and trigger = 'scheduled' and state in ('queued', 'running');
-- Two restores of one resource would fight over its name.
create unique index runs_one_restore_at_a_time on lastgood.runs (resource_id)
    where kind = 'restore' and state in ('queued', 'running');
create unique index runs_idempotency on lastgood.runs (resource_id, idempotency_key) where idempotency_key is not null;
-- Without history and without lease_until: a claim costs the same at any age, and a renewal touches no index.
create index runs_claim on lastgood.runs (queue, priority desc, run_at, id) where state = 'queued';
create index runs_running on lastgood.runs (queue) where state = 'running';
create index runs_history on lastgood.runs (resource_id, created_at desc);

-- A hint that wakes idle consumers; the poll is the guarantee. Nothing is sent for a run that waits for its time.
create function lastgood.runs_notify() returns trigger language plpgsql as $$
begin
    perform pg_notify('lastgood_runs', fresh_queues.queue)
    from (select distinct queue from fresh where state = 'queued' and run_at <= now()) as fresh_queues;
    return null;
end $$;

create trigger runs_notify after insert on lastgood.runs
    referencing new table as fresh for each statement execute function lastgood.runs_notify();

-- ── restore points: an index over the manifests ─────────────────────────────────────────────────────────────────────

create table lastgood.restore_points (
    -- The run that made it. No foreign key: the index can be rebuilt from the bucket, the runs cannot.
    id uuid primary key,
    resource_id text not null references lastgood.resources (id),
    consistent_at timestamptz not null,
    manifest_key text not null unique,
    manifest jsonb not null
        constraint restore_points_manifest_is_an_object check (jsonb_typeof(manifest) = 'object'),
    dump_bytes bigint not null
        constraint restore_points_dump_is_not_empty check (dump_bytes > 0),
    stored_bytes bigint not null
        constraint restore_points_archive_is_not_empty check (stored_bytes > 0),
    created_at timestamptz not null default now()
);

create index restore_points_newest on lastgood.restore_points (resource_id, consistent_at desc);

-- ── consumers: who is alive, and what they can truly do ─────────────────────────────────────────────────────────────

create table lastgood.consumers (
    -- Unique per process start.
    id text primary key,
    host text not null,
    pid integer not null,
    version text not null,
    queues text[] not null,
    slots integer not null
        constraint consumers_have_slots check (slots > 0),
    capabilities jsonb not null
        constraint consumers_capabilities_are_a_list check (jsonb_typeof(capabilities) = 'array'),
    state text not null default 'running'
        constraint consumers_state_is_known check (state in ('running', 'draining', 'stopped')),
    started_at timestamptz not null default now(),
    seen_at timestamptz not null default now()
);
