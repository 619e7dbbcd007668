-- Other services: tokens of the HTTP API, ad-hoc backups from a caller's own transaction, and whether a scheduler is alive.

-- ── who may ask ─────────────────────────────────────────────────────────────────────────────────────────────────────

-- A token's secret is shown once and is not here: only its hash is.
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
    -- Bound to a team, it neither sees nor touches what is another's.
    team text
        constraint tokens_team_is_a_name check (length(team) <= 128 and team ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$' and strpos(team, '..') = 0),
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    -- To the minute: which tokens nobody needs any more.
    last_used_at timestamptz
);
-- A name in the audit log is one token's.
create unique index tokens_name_in_use on lastgood.tokens (name) where revoked_at is null;

-- ── schedulers ──────────────────────────────────────────────────────────────────────────────────────────────────────

-- Which producers tick. Without one, nothing is scheduled, and no promise may be made.
create table lastgood.producers (
    -- Unique per process start.
    id text primary key,
    version text not null,
    tick_seconds integer not null
        constraint producers_tick_takes_time check (tick_seconds > 0),
    started_at timestamptz not null default now(),
    ticked_at timestamptz not null default now()
);

-- ── ad-hoc backups ──────────────────────────────────────────────────────────────────────────────────────────────────

-- What a caller asked for, to tell a repeated request from another one under the same key.
alter table lastgood.runs
    add column asked jsonb
        constraint runs_asked_is_an_object check (jsonb_typeof(asked) = 'object');

-- How many ad-hoc backups services may ask for in an hour. The operator's own command line is not limited.
create table lastgood.adhoc_limits (
    only_row boolean primary key default true
        constraint adhoc_limits_is_one_row check (only_row),
    per_resource integer not null default 12
        constraint adhoc_limits_per_resource_counts check (per_resource >= 0),
    per_team integer not null default 120
        constraint adhoc_limits_per_team_counts check (per_team >= 0)
);
insert into lastgood.adhoc_limits default values;

create index runs_adhoc on lastgood.runs (created_at desc) where trigger = 'adhoc' and kind = 'backup';

-- Enqueues an ad-hoc backup, with the rules of the HTTP API, and says in `outcome` what became of it: `new`, `replayed`,
-- `no_resource`, `removed`, `bad_key`, `key_reused`, `resource_limit`, `team_limit`.
-- It locks no resource: a caller's long transaction must not hold up a tick. Requests that others have not committed yet are
-- not seen by the limits.
create function lastgood.ask_for_backup(
    resource text, idempotency_key text,
    out outcome text, out run uuid, out retry_after_seconds integer
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    target record;
    earlier record;
    limits record;
    -- What was asked for since counts.
    since timestamptz := clock_timestamp() - interval '1 hour';
    full_since timestamptz;
begin
    if length(ask_for_backup.idempotency_key) not between 1 and 255 then
        outcome := 'bad_key';
        return;
    end if;
    select r.team, r.engine, r.status into target from lastgood.resources as r where r.id = ask_for_backup.resource;
    if not found then
        outcome := 'no_resource';
        return;
    end if;

    -- What was asked for before was answered before: under no limit, whatever has become of the resource.
    select r.id, r.kind, r.trigger into earlier from lastgood.runs as r
    where r.resource_id = ask_for_backup.resource and r.idempotency_key = ask_for_backup.idempotency_key;
    if found then
        run := earlier.id;
        outcome := case when earlier.kind = 'backup' then 'replayed' else 'key_reused' end;
        return;
    end if;
    if target.status = 'removed' then
        outcome := 'removed';
        return;
    end if;

    select l.per_resource, l.per_team into limits from lastgood.adhoc_limits as l;
    -- The oldest of as many as are allowed: when it is an hour old, there is room again.
    select r.created_at into full_since from lastgood.runs as r
    where r.resource_id = ask_for_backup.resource and r.kind = 'backup' and r.trigger = 'adhoc' and r.created_at > since
    order by r.created_at desc offset greatest(limits.per_resource - 1, 0) limit 1;
    if found or limits.per_resource = 0 then
        outcome := 'resource_limit';
        retry_after_seconds := ceil(extract(epoch from coalesce(full_since, clock_timestamp()) - since));
        return;
    end if;
    select r.created_at into full_since from lastgood.runs as r join lastgood.resources as of on of.id = r.resource_id
    where of.team = target.team and r.kind = 'backup' and r.trigger = 'adhoc' and r.created_at > since
    order by r.created_at desc offset greatest(limits.per_team - 1, 0) limit 1;
    if found or limits.per_team = 0 then
        outcome := 'team_limit';
        retry_after_seconds := ceil(extract(epoch from coalesce(full_since, clock_timestamp()) - since));
        return;
    end if;

    insert into lastgood.runs as fresh (queue, kind, trigger, resource_id, priority, args, idempotency_key)
    values (
        target.engine, 'backup', 'adhoc', ask_for_backup.resource, 50, '{"kind": "backup"}', ask_for_backup.idempotency_key
    )
    on conflict do nothing
    returning fresh.id into run;
    outcome := 'new';
    if run is null then
        -- The same request, at the same time: its transaction was waited for.
        select r.id, r.kind into earlier from lastgood.runs as r
        where r.resource_id = ask_for_backup.resource and r.idempotency_key = ask_for_backup.idempotency_key;
        run := earlier.id;
        outcome := case when earlier.kind = 'backup' then 'replayed' else 'key_reused' end;
    end if;
end $$;

-- What services call in their own transaction: the run exists if and when they commit. Refusals are errors of class LG.
create function lastgood.enqueue_backup(resource text, idempotency_key text default null) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    answer record;
begin
    answer := lastgood.ask_for_backup(enqueue_backup.resource, enqueue_backup.idempotency_key);
    if answer.outcome in ('new', 'replayed') then
        return answer.run;
    end if;
    case answer.outcome
        when 'no_resource' then
            raise exception 'there is no resource %', quote_literal(coalesce(resource, ''))
                using errcode = 'LG404', hint = 'register it first: lastgood resource add';
        when 'removed' then
            raise exception 'resource % was removed: it cannot be backed up', quote_literal(resource)
                using errcode = 'LG409', hint = 'register the database under a new id';
        when 'bad_key' then
            raise exception 'an idempotency key has 1 to 255 characters'
                using errcode = 'LG400', hint = 'use a UUID, or the id of what you are about to do';
        when 'key_reused' then
            raise exception 'the idempotency key was used for another request on resource %', quote_literal(resource)
                using errcode = 'LG409', hint = 'use a new key';
        when 'resource_limit' then
            raise exception 'resource % has had as many ad-hoc backups in the last hour as are allowed', quote_literal(resource)
                using errcode = 'LG429', hint = format('try again in %s seconds', answer.retry_after_seconds);
        when 'team_limit' then
            raise exception 'the team of resource % has had as many ad-hoc backups in the last hour as are allowed', quote_literal(resource)
                using errcode = 'LG429', hint = format('try again in %s seconds', answer.retry_after_seconds);
    end case;
end $$;

-- By default a function is everybody's.
revoke all on function lastgood.ask_for_backup(text, text) from public;
revoke all on function lastgood.enqueue_backup(text, text) from public;
