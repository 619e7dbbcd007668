-- What is asked of all resources and all runs, by index or kept as it changes: at a million of each, a look at all of them takes minutes.

-- ── exposure ────────────────────────────────────────────────────────────────────────────────────────────────────────

alter table lastgood.resources
    -- Since when a failure would lose everything: the newest restorable instant, or the registration.
    add column exposed_since timestamptz not null generated always as (coalesce(newest_consistent_at, created_at)) stored,
    -- When one of its trusted points was last read back and found whole; kept by a trigger.
    add column proven_at timestamptz;

create index resources_exposed on lastgood.resources (tier, exposed_since)
    where status = 'active' and coalesce(retention_days, 1) > 0;
create index resources_never_backed_up on lastgood.resources (tier, created_at)
    where status = 'active' and coalesce(retention_days, 1) > 0 and newest_consistent_at is null;
create index resources_suspended on lastgood.resources (tier)
    where status = 'paused' or (status = 'active' and retention_days <= 0);

-- ── planning ────────────────────────────────────────────────────────────────────────────────────────────────────────

-- Which of a tier are planned otherwise than it says.
create index resources_planned on lastgood.resources (tier, cadence_minutes, next_due_at) where status = 'active';
drop index lastgood.resources_by_tier;

-- ── proofs ──────────────────────────────────────────────────────────────────────────────────────────────────────────

update lastgood.resources as r
set proven_at = proven.at
from (
    select resource_id, max(verified_at) as at from lastgood.trusted_points where verified_at is not null group by resource_id
) as proven
where r.id = proven.resource_id;

create index resources_unproven on lastgood.resources (engine, proven_at nulls first, id) where newest_consistent_at is not null;

create function lastgood.points_are_proven() returns trigger language plpgsql as $$
begin
    update lastgood.resources as r
    set proven_at = proven.at
    from (
        select touched.resource_id, (
                select max(point.verified_at) from lastgood.trusted_points as point
                where point.resource_id = touched.resource_id and point.verified_at is not null
            ) as at
        from (select distinct resource_id from changed where verified_at is not null) as touched
    ) as proven
    where r.id = proven.resource_id and r.proven_at is distinct from proven.at;
    return null;
end $$;

-- Whoever changes what a point is good for has locked its resource before.
create trigger points_are_proven after update on lastgood.restore_points
    referencing new table as changed for each statement execute function lastgood.points_are_proven();

-- ── lists of runs ───────────────────────────────────────────────────────────────────────────────────────────────────

-- Of a kind that there is little or nothing of. Backups are most of all: the newest of them are found among the newest.
create index runs_by_kind on lastgood.runs (kind, created_at desc) where kind <> 'backup';
create index runs_cancelled on lastgood.runs (created_at desc) where state = 'cancelled';

-- ── one producer at a time ──────────────────────────────────────────────────────────────────────────────────────────

-- Who does what only one needs to do. To lose it, or to hold it twice, is harmless: all of it may be done by any number at once.
create table lastgood.leadership (
    work text primary key
        constraint leadership_work_is_a_word check (work ~ '^[a-z_]{1,32}$'),
    holder text not null,
    until timestamptz not null
);

-- What the leader measured last, for the others to show.
create table lastgood.measured (
    is_only boolean primary key default true
        constraint measured_is_one_row check (is_only),
    at timestamptz not null,
    figures jsonb not null
        constraint measured_figures_are_an_object check (jsonb_typeof(figures) = 'object')
);
