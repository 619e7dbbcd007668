-- Copies in other stores, keys of archives, retention and verification: what happens to a restore point after it was made.

-- ── upkeep: runs about one restore point ────────────────────────────────────────────────────────────────────────────

alter table lastgood.runs
    drop constraint runs_kind_is_known,
    add constraint runs_kind_is_known check (kind in ('backup', 'restore', 'drop_replaced', 'copy', 'verify', 'expire')),
    drop constraint runs_trigger_is_known,
    add constraint runs_trigger_is_known check (trigger in ('scheduled', 'adhoc', 'upkeep'));

-- One copy into each store, one verification, one removal of a point at a time: any number of producers may ask.
create unique index runs_one_upkeep_at_a_time on lastgood.runs ((args ->> 'point'), kind, coalesce(args ->> 'store', ''))
    where kind in ('copy', 'verify', 'expire') and state in ('queued', 'running');

-- What failed lately is not asked for again at once.
create index runs_failed_upkeep on lastgood.runs (finished_at)
    where kind in ('copy', 'verify', 'expire') and state = 'failed';

-- ── restore points ──────────────────────────────────────────────────────────────────────────────────────────────────

alter table lastgood.restore_points
    -- When all of it was last read back and found whole: by a verification, or by a restore that succeeded.
    add column verified_at timestamptz,
    -- Found damaged: never restored from unless it is named, never counted as exposure ends.
    add column quarantined_at timestamptz,
    add column quarantined_because text,
    -- An operator wants it kept.
    add column pinned_at timestamptz,
    add column pinned_because text,
    -- The law wants it kept.
    add column held_at timestamptz,
    add column held_because text,
    -- Retention has let it go: nothing is restored from it any more, and a run removes it.
    add column expired_at timestamptz,
    add column expired_because text,
    -- Its removal has begun: it is too late to keep it.
    add column removal_began_at timestamptz,
    -- The store would not let it be removed: an object lock, say. Asked again after a while.
    add column refused_at timestamptz,
    add column refused_because text,
    add constraint restore_points_quarantine_has_a_reason check ((quarantined_at is null) = (quarantined_because is null)),
    add constraint restore_points_pin_has_a_reason check ((pinned_at is null) = (pinned_because is null)),
    add constraint restore_points_hold_has_a_reason check ((held_at is null) = (held_because is null)),
    add constraint restore_points_expiry_has_a_reason check ((expired_at is null) = (expired_because is null)),
    add constraint restore_points_only_expired_ones_are_removed check (removal_began_at is null or expired_at is not null),
    add constraint restore_points_refusal_has_a_reason check ((refused_at is null) = (refused_because is null));

-- What a restore may be made from.
create index restore_points_usable on lastgood.restore_points (resource_id, consistent_at desc)
    where quarantined_at is null and expired_at is null;
-- What to read back next, whose newest proof is how old, and what is damaged.
create index restore_points_unproven on lastgood.restore_points ((coalesce(verified_at, created_at)))
    where quarantined_at is null and expired_at is null;
create index restore_points_proven on lastgood.restore_points (resource_id, verified_at desc)
    where verified_at is not null and quarantined_at is null and expired_at is null;
create index restore_points_quarantined on lastgood.restore_points (quarantined_at) where quarantined_at is not null;
create index restore_points_expired on lastgood.restore_points (expired_at) where expired_at is not null;

-- Which stores hold a point, the one that it was made in included. Rows of before this table are added by its first reader
-- who knows the primary store's name.
create table lastgood.copies (
    point_id uuid not null references lastgood.restore_points (id) on delete cascade,
    store text not null
        constraint copies_store_is_a_name check (length(store) between 1 and 64 and store ~ '^[a-z0-9][a-z0-9_-]*$'),
    stored_at timestamptz not null default now(),
    primary key (point_id, store)
);

-- ── resources ───────────────────────────────────────────────────────────────────────────────────────────────────────

-- What is and was promised about each resource's restore points, as retention has seen it, and when it looks again. A change
-- of tier, of the row's own retention or of the plans shortens retention only after a grace period.
create table lastgood.retention (
    resource_id text primary key references lastgood.resources (id) on delete cascade,
    record jsonb
        constraint retention_record_is_an_object check (jsonb_typeof(record) = 'object'),
    look_at timestamptz not null default now()
);
create index retention_due on lastgood.retention (look_at);
insert into lastgood.retention (resource_id, look_at)
select id, now() + random() * interval '1 hour' from lastgood.resources;

create function lastgood.resources_are_looked_at() returns trigger language plpgsql as $$
begin
    insert into lastgood.retention (resource_id) select id from fresh on conflict do nothing;
    return null;
end $$;

create trigger resources_are_looked_at after insert on lastgood.resources
    referencing new table as fresh for each statement execute function lastgood.resources_are_looked_at();

-- A resource that was rebuilt from manifests has no connection: a URL is a secret, and manifests hold none. It is paused until
-- it gets one.
alter table lastgood.resources
    drop constraint resources_one_connection,
    add constraint resources_one_connection check (
        num_nonnulls(connection_ref, connection_sealed) = 1
        or (num_nonnulls(connection_ref, connection_sealed) = 0 and status in ('paused', 'removed'))
    );

-- ── keys of archives ────────────────────────────────────────────────────────────────────────────────────────────────

-- One age key pair after another for each team that has its own, and for the platform (team is null), which is everybody
-- else's. The identity is sealed under the master key. A key that was shredded stays on record without its identity.
create table lastgood.archive_keys (
    id uuid primary key default gen_random_uuid(),
    team text
        constraint archive_keys_team_is_a_name check (length(team) <= 128 and team ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$' and strpos(team, '..') = 0),
    recipient text not null unique
        constraint archive_keys_recipient_is_age check (recipient ~ '^age1[0-9a-z]+$'),
    identity_sealed bytea,
    created_at timestamptz not null default now(),
    -- Archives made since then use the next key; this one still opens those made before.
    retired_at timestamptz,
    shredded_at timestamptz,
    constraint archive_keys_shredded_has_no_identity check ((identity_sealed is null) = (shredded_at is not null)),
    constraint archive_keys_shredded_is_retired check (shredded_at is null or retired_at is not null)
);
create unique index archive_keys_one_in_use on lastgood.archive_keys (coalesce(team, '')) where retired_at is null;

-- ── who did what that cannot be taken back ──────────────────────────────────────────────────────────────────────────

create table lastgood.audit (
    id bigint primary key generated always as identity,
    at timestamptz not null default clock_timestamp(),
    -- The user of the machine, or the token.
    actor text not null,
    action text not null
        constraint audit_action_is_a_word check (action ~ '^[a-z][a-z_]*$'),
    resource_id text,
    point_id uuid,
    detail jsonb not null default '{}'
        constraint audit_detail_is_an_object check (jsonb_typeof(detail) = 'object')
);
create index audit_history on lastgood.audit (at desc);
