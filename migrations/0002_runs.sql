-- Runs: the queue and its history, and what holds runs back.

create table lastgood.runs (
    id uuid primary key default gen_random_uuid(),
    queue text not null
        constraint runs_queue_is_a_word check (length(queue) <= 32 and queue ~ '^[a-z][a-z0-9_]*$'),
    kind text not null
        constraint runs_kind_is_known check (kind in ('backup', 'restore', 'drop_replaced', 'copy', 'verify', 'expire')),
    trigger text not null
        constraint runs_trigger_is_known check (trigger in ('scheduled', 'adhoc', 'upkeep')),
    resource_id text not null references lastgood.resources (id),
    slot timestamptz,
    idempotency_key text
        constraint runs_idempotency_key_is_short check (length(idempotency_key) between 1 and 255),
    asked jsonb
        constraint runs_asked_is_an_object check (jsonb_typeof(asked) = 'object'),
    args jsonb not null
        constraint runs_args_are_an_object check (jsonb_typeof(args) = 'object'),
    state text not null default 'queued'
        constraint runs_state_is_known check (state in ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    priority smallint not null default 0,
    due_by timestamptz not null default now(),
    run_at timestamptz not null default now(),
    held_by text not null default '',
    attempt integer not null default 0,
    max_attempts integer not null default 5,
    epoch bigint not null default 0,
    attempt_id uuid,
    lease_by text,
    lease_until timestamptz,
    error_kind text,
    error text
        constraint runs_error_is_bounded check (octet_length(error) <= 32768),
    error_detail text
        constraint runs_error_detail_is_bounded check (octet_length(error_detail) <= 131072),
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

comment on table lastgood.runs is 'Jobs: those that wait, those that run, and the history of those that have ended.';
comment on column lastgood.runs.queue is 'One queue per engine, of the same name.';
comment on column lastgood.runs.slot is
    'The start of the cadence window that a scheduled backup covers. It moves forward while the run waits: missed windows coalesce.';
comment on column lastgood.runs.asked is 'What the caller asked for, to tell a repeated request from another one under the same key.';
comment on column lastgood.runs.args is 'The job: a JSON object whose `kind` is the run''s.';
comment on column lastgood.runs.due_by is 'When the promise behind the run breaks. Of a run that no promise covers, when it was asked for.';
comment on column lastgood.runs.run_at is 'When the run may be claimed.';
comment on column lastgood.runs.held_by is
    'The line that the run stands in. Empty: it may be claimed. A hint for claims, which look whether it still holds.';
comment on column lastgood.runs.epoch is 'Rises with every claim: orders attempts. A catalog that lost commits may count an epoch twice.';
comment on column lastgood.runs.attempt_id is 'The fencing token: drawn at random by the last claim. Null: never claimed.';
comment on column lastgood.runs.lease_by is 'The worker that executes the run.';
comment on column lastgood.runs.error_kind is 'The family of the last error.';
comment on column lastgood.runs.error is 'The last error. Kept while a later attempt runs.';
comment on column lastgood.runs.error_detail is 'What the tool itself said, without secrets: the begin and the end of its stderr.';
comment on column lastgood.runs.result is 'What the run did, where it makes no restore point.';

-- No slot is backed up twice: two producers, a restart and a late tick are all no-ops against this index.
create unique index runs_one_per_slot on lastgood.runs (resource_id, slot)
    where kind = 'backup' and trigger = 'scheduled' and state in ('queued', 'running', 'succeeded');
-- One live scheduled backup per resource: a backup that outlasts its slot is not joined by a second dump of the same
-- database, and a backlog is as long as the resources are many, not as the outage was long.
create unique index runs_one_live_schedule on lastgood.runs (resource_id)
    where kind = 'backup' and trigger = 'scheduled' and state in ('queued', 'running');
-- Two restores of one resource would fight over its name.
create unique index runs_one_restore_at_a_time on lastgood.runs (resource_id)
    where kind = 'restore' and state in ('queued', 'running');
-- One copy into each store, one verification and one removal of a point at a time: any number of producers may ask.
create unique index runs_one_upkeep_at_a_time on lastgood.runs ((args ->> 'point'), kind, coalesce(args ->> 'store', ''))
    where kind in ('copy', 'verify', 'expire') and state in ('queued', 'running');
create unique index runs_idempotency on lastgood.runs (resource_id, idempotency_key) where idempotency_key is not null;

-- Without history and without lease_until: a claim costs the same at any age, and a renewal touches no index.
create index runs_claim on lastgood.runs (queue, held_by, priority desc, due_by, run_at, id) where state = 'queued';
create index runs_later on lastgood.runs (queue, run_at) where state = 'queued' and held_by = 'later';
create index runs_running on lastgood.runs (queue) where state = 'running';

create index runs_history on lastgood.runs (resource_id, created_at desc);
create index runs_newest on lastgood.runs (created_at desc);
create index runs_finished on lastgood.runs (finished_at, id) where finished_at is not null;
create index runs_failed on lastgood.runs (created_at desc) where state = 'failed';
create index runs_cancelled on lastgood.runs (created_at desc) where state = 'cancelled';
-- Of the kinds that are few. Most runs are backups: the newest of those are found among the newest of all.
create index runs_by_kind on lastgood.runs (kind, created_at desc) where kind <> 'backup';
create index runs_adhoc_of on lastgood.runs (resource_id, created_at desc) where trigger = 'adhoc' and kind = 'backup';
-- What failed, or was cancelled, lately is not asked for again at once.
create index runs_failed_upkeep on lastgood.runs (finished_at)
    where kind in ('copy', 'verify', 'expire') and state in ('failed', 'cancelled');

create table lastgood.attempts (
    run_id uuid not null references lastgood.runs (id) on delete cascade,
    epoch bigint not null,
    attempt_id uuid,
    attempt integer not null,
    worker text not null,
    started_at timestamptz not null,
    ended_at timestamptz not null,
    result text not null
        constraint attempts_result_is_known check (result in ('succeeded', 'retried', 'failed', 'lost', 'given_back', 'cancelled')),
    error_kind text,
    error text
        constraint attempts_error_is_bounded check (octet_length(error) <= 32768),
    tool_words text
        constraint attempts_tool_words_are_bounded check (octet_length(tool_words) <= 131072),
    dump_bytes bigint not null,
    stored_bytes bigint not null
);

comment on table lastgood.attempts is 'What each execution of a run did. A trigger writes it, whoever ends the attempt.';
comment on column lastgood.attempts.attempt is 'Which attempt it was. A retry by order counts from 1 again.';
comment on column lastgood.attempts.tool_words is 'What the tool itself said, without secrets.';

create unique index attempts_once on lastgood.attempts
    (run_id, epoch, coalesce(attempt_id, '00000000-0000-0000-0000-000000000000'));

create table lastgood.pauses (
    engine text
        constraint pauses_engine_is_a_word check (length(engine) <= 32 and engine ~ '^[a-z][a-z0-9_]*$'),
    tier text
        constraint pauses_tier_is_a_name check (length(tier) between 1 and 128),
    team text
        constraint pauses_team_is_a_name check (length(team) between 1 and 128),
    because text not null,
    by text not null,
    created_at timestamptz not null default now()
);

comment on table lastgood.pauses is
    'Nothing that a pause covers is claimed; null covers any. What runs goes on, and what is due is still enqueued.';

create unique index pauses_one_of_each on lastgood.pauses (coalesce(engine, ''), coalesce(tier, ''), coalesce(team, ''));

create table lastgood.claim_turn (
    only_row boolean primary key default true
        constraint claim_turn_is_one_row check (only_row)
);

comment on table lastgood.claim_turn is
    'Claims take turns by the lock on its row. An advisory lock would be everybody''s who can connect.';

insert into lastgood.claim_turn default values;

create table lastgood.adhoc_limits (
    only_row boolean primary key default true
        constraint adhoc_limits_is_one_row check (only_row),
    per_resource integer not null default 12
        constraint adhoc_limits_per_resource_counts check (per_resource >= 0),
    per_team integer not null default 120
        constraint adhoc_limits_per_team_counts check (per_team >= 0),
    resources_per_team integer not null default 500
        constraint adhoc_limits_resources_per_team_count check (resources_per_team >= 0)
);

comment on table lastgood.adhoc_limits is 'How much services may ask for. The operator''s own command line is not limited.';
comment on column lastgood.adhoc_limits.per_resource is 'Ad-hoc backups of one resource in an hour.';
comment on column lastgood.adhoc_limits.per_team is 'Ad-hoc backups of all resources of one team in an hour.';
comment on column lastgood.adhoc_limits.resources_per_team is
    'Resources of a team that registers them by itself, with a token that is bound to it: each is due at once.';

insert into lastgood.adhoc_limits default values;

create table lastgood.adhoc_turns (
    team text primary key
);

comment on table lastgood.adhoc_turns is
    'One row for each team, locked while a request over HTTP counts what the team has asked for.';

create table lastgood.closed_databases (
    run_id uuid primary key,
    resource_id text not null references lastgood.resources (id),
    database text not null check (length(database) between 1 and 63),
    closed_at timestamptz not null default clock_timestamp(),
    tried_at timestamptz,
    error text check (length(error) <= 2000)
);

comment on table lastgood.closed_databases is
    'Customers'' databases that a restore has closed to exchange names. Written before, struck out when they are open again.';
comment on column lastgood.closed_databases.run_id is 'The restore. Not a reference: runs are pruned some day, this row is not.';
comment on column lastgood.closed_databases.tried_at is 'When somebody last tried to open it.';
