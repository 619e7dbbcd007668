-- In operators' hands: what each attempt did, pauses, limits, the order of claims.

-- ── attempts: what each execution of a run did ──────────────────────────────────────────────────────────────────────

alter table lastgood.runs
    -- What the tool itself said of the last error, without secrets: the begin and the end of its stderr.
    add column error_detail text,
    -- When the promise behind it breaks: what a claim goes by. For what no promise covers, when it was asked for.
    add column due_by timestamptz not null default now();

create table lastgood.attempts (
    run_id uuid not null references lastgood.runs (id) on delete cascade,
    -- The fencing token that the attempt held.
    epoch bigint not null,
    attempt integer not null,
    worker text not null,
    started_at timestamptz not null,
    ended_at timestamptz not null,
    result text not null
        constraint attempts_result_is_known check (result in ('succeeded', 'retried', 'failed', 'lost', 'given_back', 'cancelled')),
    error_kind text,
    error text,
    tool_words text,
    dump_bytes bigint not null,
    stored_bytes bigint not null,
    primary key (run_id, epoch)
);

-- A trigger, so that whoever ends an attempt records it: a finish, a drain, the reaper, an operator.
create function lastgood.runs_record_attempt() returns trigger language plpgsql as $$
declare
    result constant text := case
        when new.state in ('succeeded', 'cancelled') then new.state
        when new.attempt < old.attempt then 'given_back'
        -- The reaper moves the epoch on; a worker that ends its own attempt does not.
        when new.epoch > old.epoch then 'lost'
        when new.state = 'failed' then 'failed'
        else 'retried'
    end;
    told constant boolean := result in ('retried', 'failed', 'lost', 'cancelled');
begin
    insert into lastgood.attempts
        (run_id, epoch, attempt, worker, started_at, ended_at, result, error_kind, error, tool_words, dump_bytes, stored_bytes)
    values (
        old.id, old.epoch, old.attempt, old.lease_by, coalesce(old.started_at, old.created_at), clock_timestamp(), result,
        case when told then new.error_kind end, case when told then new.error end,
        case when result in ('retried', 'failed') then new.error_detail end, new.dump_bytes, new.stored_bytes
    )
    on conflict do nothing;
    return null;
end $$;

create trigger runs_attempt_ended after update of state on lastgood.runs
    for each row when (old.state = 'running' and new.state <> 'running') execute function lastgood.runs_record_attempt();

-- ── history ─────────────────────────────────────────────────────────────────────────────────────────────────────────

-- What is old enough to go, and what failed lately.
create index runs_finished on lastgood.runs (finished_at, id) where finished_at is not null;

-- ── pauses ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- Nothing that a pause covers is claimed; null covers any. What runs goes on, and what is due is still enqueued.
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
create unique index pauses_one_of_each on lastgood.pauses (coalesce(engine, ''), coalesce(tier, ''), coalesce(team, ''));

-- ── consumers and servers ───────────────────────────────────────────────────────────────────────────────────────────

alter table lastgood.consumers
    -- An operator wants it to drain and end.
    add column drain_requested_at timestamptz;

alter table lastgood.resources
    -- Where its server is, as the consumer that last backed it up learned it: `host:port`, never a secret.
    add column server text
        constraint resources_server_is_a_host check (length(server) between 1 and 1024 and server = lower(server) and strpos(server, '@') = 0);

-- ── claims ──────────────────────────────────────────────────────────────────────────────────────────────────────────

drop index lastgood.runs_claim;
-- Without history and without lease_until: a claim costs the same at any age, and a renewal touches no index.
create index runs_claim on lastgood.runs (queue, priority desc, due_by, run_at, id) where state = 'queued';

-- What a run counts against: restores are limited apart, so that one never waits for its own team's backups, and upkeep, so that no
-- backup waits for it.
create function lastgood.team_share(kind text, team text) returns text
language sql immutable parallel safe
return case
    when kind = 'restore' then 'restores of '
    when kind in ('copy', 'verify', 'expire') then 'upkeep of '
    else 'runs of '
end || team;

-- Takes at most so many runnable runs of a queue for a worker, the most urgent first, and passes over what a pause or a limit
-- holds back. docs/queue.md states the order and the limits.
--
-- A function, because the lock must be taken before the statement that counts what runs, and must not outlast it: a
-- client that stands still between two statements would hold up everybody's claims.
-- `slots_per_team` null: half of the live slots of the queue, two at least; without live consumers, no limit.
create function lastgood.claim(
    from_queue text, at_most bigint, for_worker text, with_lease interval, slots_per_team integer, slots_per_server integer,
    lowest_priority smallint, highest_priority smallint
) returns setof lastgood.runs
language plpgsql set lock_timeout = '5s' as $$
declare
    team_limit integer := slots_per_team;
    -- How many run, of each thing that has a limit.
    taken jsonb;
    waiting record;
    chosen uuid[] := '{}';
begin
    if not exists (
            select from lastgood.runs
            where queue = from_queue and state = 'queued' and run_at <= now()
                and priority between lowest_priority and highest_priority
        )
        or exists (select from lastgood.pauses where coalesce(engine, from_queue) = from_queue and tier is null and team is null)
    then
        return;
    end if;
    -- "lastgood" in ASCII: one claim at a time, or two would count the same free slot.
    perform pg_advisory_xact_lock(x'6c617374676f6f64'::bigint);
    if team_limit is null then
        -- Upkeep has half as many slots of its own, one at least.
        select greatest(2, ceil(sum(case when highest_priority < 0 then greatest(slots / 2, 1) else slots end) / 2.0))
        into team_limit from lastgood.consumers
        where from_queue = any (queues) and state = 'running' and seen_at > now() - interval '30 seconds'
        having count(*) > 0;
    end if;
    select coalesce(jsonb_object_agg(counted.thing, counted.runs), '{}') into taken
    from (
        select things.thing, count(*) as runs
        from lastgood.runs as run
        join lastgood.resources as r on r.id = run.resource_id
        cross join lateral unnest(array[
            case when run.queue = from_queue then lastgood.team_share(run.kind, r.team) end,
            case when run.kind = 'backup' then 'server ' || r.server end,
            case when run.kind = 'backup' then 'dump ' || r.id end
        ]) as things (thing)
        where run.state = 'running' and things.thing is not null
        group by things.thing
    ) as counted;
    for waiting in
        select
            run.id, lastgood.team_share(run.kind, r.team) as share,
            case when run.kind = 'backup' then 'server ' || r.server end as server,
            case when run.kind = 'backup' then 'dump ' || r.id end as dump
        from lastgood.runs as run join lastgood.resources as r on r.id = run.resource_id
        where run.queue = from_queue and run.state = 'queued' and run.run_at <= now() and run.attempt < run.max_attempts
            and run.priority between lowest_priority and highest_priority
            and not exists (
                select from lastgood.pauses as pause
                where coalesce(pause.engine, run.queue) = run.queue and coalesce(pause.tier, r.tier) = r.tier
                    and coalesce(pause.team, r.team) = r.team
            )
        order by run.priority desc, run.due_by, run.run_at, run.id
    loop
        continue when coalesce((taken ->> waiting.share)::integer, 0) >= team_limit
            or (taken ->> waiting.server)::integer >= slots_per_server
            or taken ? waiting.dump;
        chosen := chosen || waiting.id;
        exit when cardinality(chosen) >= at_most;
        taken := taken || jsonb_build_object(waiting.share, coalesce((taken ->> waiting.share)::integer, 0) + 1)
            || case when waiting.dump is null then '{}' else jsonb_build_object(waiting.dump, 1) end
            || case when waiting.server is null then '{}'
                else jsonb_build_object(waiting.server, coalesce((taken ->> waiting.server)::integer, 0) + 1) end;
    end loop;
    return query
        with next as materialized (
            -- What somebody else holds is taken the next time: to wait for it could be to wait for each other.
            select run.id from lastgood.runs as run where run.id = any (chosen) and run.state = 'queued' for update skip locked
        )
        update lastgood.runs as run
        set state = 'running', attempt = run.attempt + 1, epoch = run.epoch + 1,
            lease_by = for_worker, lease_until = clock_timestamp() + with_lease, started_at = clock_timestamp(),
            dump_bytes = 0, stored_bytes = 0
        from next
        where run.id = next.id
        returning run.*;
end $$;
