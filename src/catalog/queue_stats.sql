-- What each queue holds. In three parts, for each of which there is an index without older history.
select
    queue as "engine!", sum(runnable)::bigint as "runnable!", sum(waiting)::bigint as "waiting!",
    sum(running)::bigint as "running!", sum(failed)::bigint as "failed!", min(oldest) as oldest_runnable_at
from (
    select
        queue, count(*) filter (where run_at <= now()) as runnable, count(*) filter (where run_at > now()) as waiting,
        0 as running, 0 as failed, min(run_at) filter (where run_at <= now()) as oldest
    from lastgood.runs where state = 'queued' group by queue
    union all
    select queue, 0, 0, count(*), 0, null from lastgood.runs where state = 'running' group by queue
    union all
    select queue, 0, 0, 0, count(*), null
    from lastgood.runs where finished_at > now() - interval '24 hours' and state = 'failed' group by queue
) as parts
group by queue
order by queue
