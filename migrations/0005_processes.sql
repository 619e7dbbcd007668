-- The processes that do the work: which are alive, what they can do, and what they have measured.

create table lastgood.producers (
    id text primary key,
    version text not null,
    tick_seconds integer not null
        constraint producers_tick_takes_time check (tick_seconds > 0),
    started_at timestamptz not null default now(),
    ticked_at timestamptz not null default now(),
    plans_blake3 text not null
        constraint producers_plans_are_hashed check (plans_blake3 ~ '^[0-9a-f]{64}$'),
    verify_within_seconds bigint not null
        constraint producers_verify_within_is_a_time check (verify_within_seconds >= 0)
);

comment on table lastgood.producers is 'Which producers tick. Without one nothing is scheduled, and no promise may be made.';
comment on column lastgood.producers.id is 'Unique per process start.';
comment on column lastgood.producers.plans_blake3 is 'The BLAKE3 of the plans in force, in lowercase hex.';
comment on column lastgood.producers.verify_within_seconds is 'How old a restore point''s proof may be. 0: they are not read back.';

create table lastgood.consumers (
    id text primary key,
    host text not null,
    pid integer not null,
    version text not null,
    queues text[] not null,
    slots integer not null
        constraint consumers_have_slots check (slots > 0),
    capabilities jsonb not null
        constraint consumers_capabilities_are_a_list check (jsonb_typeof(capabilities) = 'array'),
    master_keys integer[] not null default '{}',
    state text not null default 'running'
        constraint consumers_state_is_known check (state in ('running', 'draining', 'stopped')),
    started_at timestamptz not null default now(),
    seen_at timestamptz not null default now(),
    drain_requested_at timestamptz
);

comment on table lastgood.consumers is 'Who executes runs, and what they can truly do.';
comment on column lastgood.consumers.id is 'Unique per process start.';
comment on column lastgood.consumers.slots is 'Runs that it executes at once, per queue. Upkeep has half as many of its own.';
comment on column lastgood.consumers.capabilities is 'Engines, operations and tools, as probed at its start.';
comment on column lastgood.consumers.master_keys is 'The numbers of the master keys that it has.';
comment on column lastgood.consumers.drain_requested_at is 'When an operator asked it to drain and end.';

create table lastgood.store_faults (
    store text not null,
    consumer_id text not null references lastgood.consumers (id) on delete cascade,
    why text not null
        constraint store_faults_are_short check (length(why) <= 2000),
    since timestamptz not null default now(),
    primary key (store, consumer_id)
);

comment on table lastgood.store_faults is
    'What live consumers see wrong with a store: gone, exchanged for another, out of reach.';

create index store_faults_of_a_consumer on lastgood.store_faults (consumer_id);

create table lastgood.leadership (
    work text primary key
        constraint leadership_work_is_a_word check (work ~ '^[a-z_]{1,32}$'),
    holder text not null,
    until timestamptz not null
);

comment on table lastgood.leadership is
    'Which producer does what only one needs to do. To lose it, or to hold it twice, is harmless.';

create table lastgood.measured (
    is_only boolean primary key default true
        constraint measured_is_one_row check (is_only),
    at timestamptz not null,
    figures jsonb not null
        constraint measured_figures_are_an_object check (jsonb_typeof(figures) = 'object')
);

comment on table lastgood.measured is 'What the leader measured last, for the other producers to show.';

create table lastgood.functions_in_force (
    is_only boolean primary key default true
        constraint functions_in_force_is_one_row check (is_only),
    version integer not null default 0
);

comment on table lastgood.functions_in_force is 'Which version of sql/functions `lastgood migrate` has applied.';

insert into lastgood.functions_in_force default values;
