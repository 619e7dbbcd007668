-- `hold: strict`: a resource's own cadence, found from what its backups take, so that its RPO holds to the minute.

alter table lastgood.resources
    add column strict_cadence_minutes integer
        constraint resources_strict_cadence_is_possible check (strict_cadence_minutes between 5 and 1440),
    add column strict_rpo_minutes integer
        constraint resources_strict_rpo_is_positive check (strict_rpo_minutes > 0),
    add constraint resources_strict_cadence_is_of_an_rpo check (num_nonnulls(strict_cadence_minutes, strict_rpo_minutes) in (0, 2));

comment on column lastgood.resources.strict_cadence_minutes is
    'Its own cadence under `hold: strict`. Counts only while its tier is held strictly, at the RPO that it was found for.';
comment on column lastgood.resources.strict_rpo_minutes is 'The RPO that its own cadence was found for.';

-- Planned by other than its own cadence: as good as empty.
create index resources_off_their_strict_cadence on lastgood.resources (tier)
    where status = 'active' and strict_cadence_minutes is not null and cadence_minutes <> strict_cadence_minutes;
create index resources_held_strictly on lastgood.resources (tier, strict_rpo_minutes, strict_cadence_minutes, next_due_at)
    where status = 'active' and strict_rpo_minutes is not null;

create table lastgood.strict_holds (
    resource_id text primary key references lastgood.resources (id) on delete cascade,
    look_at timestamptz not null default now(),
    planned_at timestamptz,
    rpo_minutes integer
        constraint strict_holds_rpo_is_positive check (rpo_minutes > 0),
    backups integer not null default 0
        constraint strict_holds_backups_count check (backups >= 0),
    takes_seconds integer
        constraint strict_holds_takes_time check (takes_seconds >= 0),
    is_infeasible boolean not null default false,
    constraint strict_holds_are_planned_as_a_whole check (num_nonnulls(planned_at, rpo_minutes) in (0, 2)),
    constraint strict_holds_infeasible_says_why check (not is_infeasible or num_nonnulls(planned_at, takes_seconds) = 2)
);

comment on table lastgood.strict_holds is
    'Resources whose RPO is held to the minute: when their cadence is next found, and what it was found from. A tick adds a row.';
comment on column lastgood.strict_holds.look_at is 'When the producer that leads finds its cadence again: daily.';
comment on column lastgood.strict_holds.rpo_minutes is 'The RPO that was decided about.';
comment on column lastgood.strict_holds.backups is 'How many backups of the last 30 days it was decided from.';
comment on column lastgood.strict_holds.takes_seconds is
    'What a backup was allowed, with its wait and a tick of the producer. Null: none is on record.';
comment on column lastgood.strict_holds.is_infeasible is 'No cadence holds the RPO.';

create index strict_holds_due on lastgood.strict_holds (look_at);
create index strict_holds_infeasible on lastgood.strict_holds (resource_id) where is_infeasible;

-- What scheduled backups took, read without a look at the runs themselves: a resource may have thousands on record.
create index runs_took on lastgood.runs (resource_id, finished_at desc) include (created_at, started_at, dump_bytes, stored_bytes)
    where kind = 'backup' and trigger = 'scheduled' and state = 'succeeded';

alter table lastgood.plans_on_record add column strict text[] not null default '{}';

comment on column lastgood.plans_on_record.strict is 'The tiers whose RPO is held to the minute.';
