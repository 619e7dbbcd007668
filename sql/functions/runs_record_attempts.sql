-- Records the attempts that a statement ends, whoever ends them: a finish, a drain, the reaper, an operator. One statement for all of them:
-- a row at a time was a third of what an end costs.
create or replace function lastgood.runs_record_attempts() returns trigger language plpgsql
-- By hash, however many there are: how many was not known when this was planned.
set enable_nestloop = off as $$
begin
    insert into lastgood.attempts (
        run_id, epoch, attempt_id, attempt, worker, started_at, ended_at, result, error_kind, error, tool_words,
        dump_bytes, stored_bytes
    )
    select id, epoch, attempt_id, attempt, lease_by, began, clock_timestamp(), result,
        case when is_told then error_kind end, case when is_told then error end,
        case when result in ('retried', 'failed') then error_detail end, dump_bytes, stored_bytes
    from (
        select
            was.id, was.epoch, was.attempt_id, was.attempt, was.lease_by, coalesce(was.started_at, was.created_at) as began,
            is_now.error_kind, is_now.error, is_now.error_detail, is_now.dump_bytes, is_now.stored_bytes, ending.result,
            ending.result in ('retried', 'failed', 'lost', 'cancelled') as is_told
        from runs_before as was join runs_after as is_now on is_now.id = was.id
        cross join lateral (
            select case
                when is_now.state in ('succeeded', 'cancelled') then is_now.state
                when is_now.attempt < was.attempt then 'given_back'
                -- The reaper moves the epoch on; a worker that ends its own attempt does not.
                when is_now.epoch > was.epoch then 'lost'
                when is_now.state = 'failed' then 'failed'
                else 'retried'
            end as result
        ) as ending
        where was.state = 'running' and is_now.state <> 'running'
    ) as ended
    on conflict do nothing;
    return null;
end $$;

create or replace trigger runs_attempts_ended after update on lastgood.runs referencing old table as runs_before new table as runs_after
    for each statement execute function lastgood.runs_record_attempts();
