-- Claims at most so many runnable runs of a queue for a worker, the most urgent first, and passes over runs that a pause or a limit holds
-- back. docs/explanation/queue.md states the order and the limits.
--
-- A run that is held back stands in a line (`runs.held_by`) that is named after what holds it. A claim passes over it once, when it puts it
-- there, so that a claim costs the same however many runs are held back. When a line moves, its most urgent runs come back.
--
-- What has failed before gets no more than three quarters of a queue's slots: servers that never answer hold each slot until a time-out,
-- and databases that can be backed up have a slot all the same. Where there is one slot, it is for either. Ad-hoc runs are not limited so.
--
-- `slots_per_team` null: half of the live slots of the queue, two at least. `attempts`: the ids of the attempts, for a caller that must know
-- them although the answer may be lost; where there are too few, the rest is drawn here.
--
-- It is a function because its lock must be taken before the statement that counts what runs, and must not outlast it: a client that
-- stands still between two statements would hold up everybody's claims.
create or replace function lastgood.claim(
    from_queue text, at_most bigint, for_worker text, with_lease interval, slots_per_team integer, slots_per_server integer,
    lowest_priority smallint, highest_priority smallint, attempts uuid[] default '{}'
) returns setof lastgood.runs
language plpgsql set lock_timeout = '5s' set enable_sort = off set enable_seqscan = off
-- Its statements name arrays, which PostgreSQL would plan anew for each length: a tenth of what a claim costs.
set plan_cache_mode = force_generic_plan as $$
declare
    team_limit integer := slots_per_team;
    failing_limit integer;
    -- The team's share, the server and the database of each running run, then also of each chosen one. Limits count these.
    shares text[];
    servers text[];
    dumps text[];
    -- How many of them failed before.
    failing bigint;
    lines text[];
    line text;
    room bigint;
    waiting record;
    holds text;
    held uuid[] := '{}';
    held_by_what text[] := '{}';
    chosen uuid[] := '{}';
begin
    if at_most < 1 or exists (
        select from lastgood.pauses where coalesce(engine, from_queue) = from_queue and tier is null and team is null
    ) then
        return;
    end if;
    -- From line to line in the index, however long each is.
    with recursive steps as (
        (
            select run.held_by from lastgood.runs as run
            where run.state = 'queued' and run.queue = from_queue and run.held_by > ''
            order by run.held_by limit 1
        )
        union all
        select (
            select run.held_by from lastgood.runs as run
            where run.state = 'queued' and run.queue = from_queue and run.held_by > steps.held_by
            order by run.held_by limit 1
        )
        from steps where steps.held_by is not null
    )
    select array_agg(steps.held_by) into lines from steps where steps.held_by is not null;
    if lines is null and not exists (
        select from lastgood.runs as run
        where run.queue = from_queue and run.state = 'queued' and run.held_by = '' and run.run_at <= now()
            and run.priority between lowest_priority and highest_priority
    ) then
        return;
    end if;
    -- One claim at a time, or two would count the same free slot.
    perform from lastgood.claim_turn for update;
    -- Upkeep has half as many slots of its own, one at least.
    select
        coalesce(slots_per_team, greatest(2, ceil(sum(case when highest_priority < 0 then greatest(slots / 2, 1) else slots end) / 2.0))),
        greatest(1, sum(slots) - greatest(1, sum(slots) / 4))
    into team_limit, failing_limit from lastgood.consumers
    where from_queue = any (queues) and state = 'running' and seen_at > now() - interval '30 seconds'
    having count(*) > 0;
    team_limit := coalesce(team_limit, slots_per_team);
    select
        coalesce(array_agg(lastgood.team_share(run.kind, r.team)) filter (where run.queue = from_queue), '{}'),
        coalesce(array_agg('server ' || r.server) filter (where run.kind = 'backup'), '{}'),
        coalesce(array_agg('dump ' || r.id) filter (where run.kind = 'backup'), '{}'),
        count(*) filter (where run.queue = from_queue and run.trigger = 'scheduled' and (run.attempt > 1 or r.failures_in_a_row > 0))
    into shares, servers, dumps, failing
    from lastgood.runs as run join lastgood.resources as r on r.id = run.resource_id
    where run.state = 'running';
    -- Lines that move: as many come back as there is room for, and no more than this claim can take.
    foreach line in array coalesce(lines, '{}') loop
        room := least(at_most, case split_part(line, ' ', 1)
            when 'later' then at_most
            when 'pause' then case
                when exists (select from lastgood.pauses as pause where lastgood.pause_line(pause.engine, pause.tier, pause.team) = line) then 0
                else at_most
            end
            when 'dump' then case when line = any (dumps) then 0 else 1 end
            when 'failing' then coalesce(failing_limit - failing, at_most)
            when 'server' then slots_per_server - cardinality(array_positions(servers, line))
            else coalesce(team_limit - cardinality(array_positions(shares, line)), at_most)
        end);
        continue when room < 1;
        if line = 'later' then
            with back as materialized (
                select run.id from lastgood.runs as run
                where run.queue = from_queue and run.state = 'queued' and run.held_by = 'later' and run.run_at <= now()
                order by run.run_at limit 1000
                for update skip locked
            )
            update lastgood.runs as run set held_by = '' from back where run.id = back.id;
        else
            with back as materialized (
                select run.id from lastgood.runs as run
                where run.queue = from_queue and run.state = 'queued' and run.held_by = line
                    and run.priority between lowest_priority and highest_priority
                order by run.priority desc, run.due_by, run.run_at, run.id limit room
                for update skip locked
            )
            update lastgood.runs as run set held_by = '' from back where run.id = back.id;
        end if;
    end loop;
    for waiting in
        select
            run.id, run.run_at, lastgood.team_share(run.kind, r.team) as share,
            case when run.kind = 'backup' then 'server ' || r.server end as server,
            case when run.kind = 'backup' then 'dump ' || r.id end as dump,
            case when run.trigger = 'scheduled' and (run.attempt > 0 or r.failures_in_a_row > 0) then 'failing' end as failing,
            (
                select min(lastgood.pause_line(pause.engine, pause.tier, pause.team)) from lastgood.pauses as pause
                where coalesce(pause.engine, run.queue) = run.queue and coalesce(pause.tier, r.tier) = r.tier
                    and coalesce(pause.team, r.team) = r.team
            ) as pause
        from lastgood.runs as run join lastgood.resources as r on r.id = run.resource_id
        where run.queue = from_queue and run.state = 'queued' and run.held_by = ''
            and run.priority between lowest_priority and highest_priority
        order by run.priority desc, run.due_by, run.run_at, run.id
    loop
        holds := case
            when waiting.run_at > now() then 'later'
            when waiting.pause is not null then waiting.pause
            when cardinality(array_positions(shares, waiting.share)) >= team_limit then waiting.share
            when waiting.server is not null and cardinality(array_positions(servers, waiting.server)) >= slots_per_server
                then waiting.server
            when waiting.dump = any (dumps) then waiting.dump
            when failing >= failing_limit then waiting.failing
        end;
        if holds is not null then
            held := held || waiting.id;
            held_by_what := held_by_what || holds;
            -- A backlog that is held back as of now: the next claim goes on, and need not wait for its time.
            if cardinality(held) >= 2000 then
                perform pg_notify('lastgood_runs', from_queue);
                exit;
            end if;
            continue;
        end if;
        chosen := chosen || waiting.id;
        exit when cardinality(chosen) >= at_most;
        shares := shares || waiting.share;
        servers := servers || waiting.server;
        dumps := dumps || waiting.dump;
        failing := failing + (waiting.failing is not null)::integer;
    end loop;
    if cardinality(held) > 0 then
        -- What somebody else holds is held back the next time: to wait for it could be to wait for each other.
        with free as materialized (
            select run.id from lastgood.runs as run where run.id = any (held) and run.state = 'queued' for update skip locked
        )
        update lastgood.runs as run
        -- By its place and not by a join: a plan that guesses few rows would compare each with each.
        set held_by = held_by_what[array_position(held, run.id)]
        from free
        where run.id = free.id;
    end if;
    return query
        with next as materialized (
            select run.id from lastgood.runs as run where run.id = any (chosen) and run.state = 'queued' for update skip locked
        )
        update lastgood.runs as run
        set state = 'running', attempt = run.attempt + 1, epoch = run.epoch + 1,
            attempt_id = coalesce(attempts[array_position(chosen, run.id)], gen_random_uuid()),
            lease_by = for_worker, lease_until = clock_timestamp() + with_lease, started_at = clock_timestamp(),
            dump_bytes = 0, stored_bytes = 0
        from next
        where run.id = next.id
        returning run.*;
end $$;
