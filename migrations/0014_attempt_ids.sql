-- A fence that cannot repeat. Epochs count, and a catalog that has lost commits (a standby that was promoted, a restore to an earlier
-- time) counts them once more: two workers then hold the same epoch of the same run. Each claim draws a random id besides.

-- Of the last claim, also after the attempt has ended. Null: never claimed, or by a build that drew none.
alter table lastgood.runs add column attempt_id uuid;

alter table lastgood.attempts add column attempt_id uuid;
alter table lastgood.attempts drop constraint attempts_pkey;
create unique index attempts_once on lastgood.attempts
    (run_id, epoch, coalesce(attempt_id, '00000000-0000-0000-0000-000000000000'));

create or replace function lastgood.runs_record_attempt() returns trigger language plpgsql as $$
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
    insert into lastgood.attempts (
        run_id, epoch, attempt_id, attempt, worker, started_at, ended_at, result, error_kind, error, tool_words,
        dump_bytes, stored_bytes
    )
    values (
        old.id, old.epoch, old.attempt_id, old.attempt, old.lease_by, coalesce(old.started_at, old.created_at),
        clock_timestamp(), result,
        case when told then new.error_kind end, case when told then new.error end,
        case when result in ('retried', 'failed') then new.error_detail end, new.dump_bytes, new.stored_bytes
    )
    on conflict do nothing;
    return null;
end $$;

-- Else as in 0009.
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
        set state = 'running', attempt = run.attempt + 1, epoch = run.epoch + 1, attempt_id = gen_random_uuid(),
            lease_by = for_worker, lease_until = clock_timestamp() + with_lease, started_at = clock_timestamp(),
            dump_bytes = 0, stored_bytes = 0
        from next
        where run.id = next.id
        returning run.*;
end $$;
