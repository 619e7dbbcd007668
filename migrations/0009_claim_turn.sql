-- Claims take turns by the lock on a row. By an advisory lock they did before, and that is everybody's who can connect: a stranger could
-- hold it and stop every claim.
create table lastgood.claim_turn (
    only_row boolean primary key default true
        constraint claim_turn_is_one_row check (only_row)
);
insert into lastgood.claim_turn default values;

-- Else as in 0004, with the settings of 0008.
create or replace function lastgood.claim(
    from_queue text, at_most bigint, for_worker text, with_lease interval, slots_per_team integer, slots_per_server integer,
    lowest_priority smallint, highest_priority smallint
) returns setof lastgood.runs
language plpgsql set lock_timeout = '5s' set enable_sort = off set enable_seqscan = off as $$
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
    -- One claim at a time, or two would count the same free slot.
    perform from lastgood.claim_turn for update;
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
