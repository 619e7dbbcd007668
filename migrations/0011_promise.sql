-- How the promises were kept: what changed and when, and what was counted from it. docs/explanation/attained-rpo.md says how.

create table lastgood.resource_changes (
    resource_id text not null references lastgood.resources (id) on delete cascade,
    at timestamptz not null,
    nth bigint not null generated always as identity,
    team text not null,
    tier text not null,
    engine text not null,
    service text not null
        constraint resource_changes_service_is_known check (service in ('active', 'suspended', 'removed')),
    primary key (resource_id, at, nth)
);

comment on table lastgood.resource_changes is 'What each resource was from when on. A trigger writes it, whoever changes the resource; nobody changes it.';
comment on column lastgood.resource_changes.service is
    'active: backed up as its tier says. suspended: paused, or vetoed by its own retention. removed: no more.';

-- What they were before is not on record.
insert into lastgood.resource_changes (resource_id, at, team, tier, engine, service)
select id, least(created_at, now()), team, tier, engine,
    case when status = 'removed' then 'removed' when status = 'paused' or retention_days <= 0 then 'suspended' else 'active' end
from lastgood.resources;

create table lastgood.past_pauses (
    nth bigint primary key generated always as identity,
    engine text,
    tier text,
    team text,
    began_at timestamptz not null,
    ended_at timestamptz
);

comment on table lastgood.past_pauses is
    'Every pause of the queue, those in force as well: a row of lastgood.pauses goes when it ends. A trigger writes it.';

create unique index past_pauses_in_force on lastgood.past_pauses (coalesce(engine, ''), coalesce(tier, ''), coalesce(team, ''))
    where ended_at is null;
create index past_pauses_ended on lastgood.past_pauses (ended_at);

insert into lastgood.past_pauses (engine, tier, team, began_at)
select engine, tier, team, created_at from lastgood.pauses;

create table lastgood.tier_promises (
    tier text not null,
    since timestamptz not null,
    rpo_minutes integer not null
        constraint tier_promises_rpo_is_a_time check (rpo_minutes >= 0),
    tolerance_minutes integer not null
        constraint tier_promises_tolerance_is_a_time check (tolerance_minutes >= 0),
    primary key (tier, since)
);

comment on table lastgood.tier_promises is
    'What each tier promised from when on, as producers with a plans file went by it. A tier that left the file promises nothing.';
comment on column lastgood.tier_promises.rpo_minutes is '0: nothing is promised.';

create table lastgood.last_tick (
    is_only boolean primary key default true
        constraint last_tick_is_one_row check (is_only),
    at timestamptz not null
);

comment on table lastgood.last_tick is 'When any producer ticked last. A producer''s own row goes when it stops.';

create table lastgood.downtimes (
    began_at timestamptz primary key,
    ended_at timestamptz not null
);

comment on table lastgood.downtimes is
    'When no producer ticked, whether none was running or none could reach the catalog. The first that ticks again writes it.';

create index downtimes_ended on lastgood.downtimes (ended_at);

create table lastgood.past_points (
    point_id uuid primary key,
    resource_id text not null,
    consistent_at timestamptz not null,
    counted_from timestamptz not null,
    counted_until timestamptz not null
);

comment on table lastgood.past_points is
    'Restore points that are gone and still matter to a day that is not counted for good. A trigger writes it when their rows go.';

create index past_points_of_a_resource on lastgood.past_points (resource_id);
create index past_points_ended on lastgood.past_points (counted_until);

create table lastgood.promise_days (
    day date not null,
    resource_id text not null,
    team text not null,
    tier text not null,
    rpo_minutes integer not null,
    promised_seconds integer not null,
    late_seconds integer not null,
    broken_seconds integer not null,
    paused_seconds integer not null,
    down_seconds integer not null,
    worst_exposure_seconds bigint not null,
    primary key (day, resource_id, tier, team),
    constraint promise_days_add_up check (
        0 <= broken_seconds and broken_seconds <= late_seconds and late_seconds <= promised_seconds
        and paused_seconds >= 0 and down_seconds between 0 and promised_seconds and promised_seconds + paused_seconds <= 86401
    )
);

comment on table lastgood.promise_days is 'How the promise was kept for each resource on each day in UTC. Kept for 400 days.';
comment on column lastgood.promise_days.team is 'Whose it was. A resource that changed team or tier has a row for each.';
comment on column lastgood.promise_days.rpo_minutes is 'The RPO that was promised last.';
comment on column lastgood.promise_days.promised_seconds is 'For how long something was promised, without what was paused.';
comment on column lastgood.promise_days.late_seconds is 'For how much of it the exposure was longer than the RPO.';
comment on column lastgood.promise_days.broken_seconds is 'For how much of that it was longer than the RPO and its tolerance.';
comment on column lastgood.promise_days.paused_seconds is 'For how long it was paused by an operator or suspended: neither kept nor broken.';
comment on column lastgood.promise_days.down_seconds is 'For how much of the promised time no producer ticked. It excuses nothing.';

create index promise_days_of_a_resource on lastgood.promise_days (resource_id, day);
create index promise_days_of_a_team on lastgood.promise_days (team, day);
create index promise_days_broken on lastgood.promise_days (day, tier) where broken_seconds > 0;

create table lastgood.promise_totals (
    day date not null,
    team text not null,
    tier text not null,
    resources integer not null,
    promised_seconds bigint not null,
    late_seconds bigint not null,
    broken_seconds bigint not null,
    paused_seconds bigint not null,
    down_seconds bigint not null,
    worst_exposure_seconds bigint not null,
    primary key (day, team, tier)
);

comment on table lastgood.promise_totals is 'The sums of promise_days for each team and tier, so that reports read few rows.';

create index promise_totals_of_a_team on lastgood.promise_totals (team, day);

create table lastgood.promise_passes (
    day date primary key,
    until timestamptz not null,
    after text not null default '',
    is_final boolean not null,
    ended_at timestamptz
);

comment on table lastgood.promise_passes is
    'How far each day has been counted. A day is counted so far while it lasts, and for good once it has ended.';
comment on column lastgood.promise_passes.until is 'The instant up to which the day is counted.';
comment on column lastgood.promise_passes.after is 'The last resource that was counted, in the order of their ids.';

create table lastgood.promise_recounts (
    resource_id text primary key,
    day date not null,
    marked_at timestamptz not null
);

comment on table lastgood.promise_recounts is
    'Resources of which something about the past came to light, and the first day that it concerns. Triggers write it.';

create table lastgood.promise_slices (
    until timestamptz not null,
    tier text not null,
    began_at timestamptz not null,
    promised_seconds double precision not null,
    broken_seconds double precision not null,
    primary key (until, tier),
    constraint promise_slices_last check (began_at < until)
);

comment on table lastgood.promise_slices is
    'How the last hours'' promises were kept, a few minutes at a time, for the burn rates. Kept for two days.';
