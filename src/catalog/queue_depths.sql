-- What waits and runs in each queue. In two halves, for each of which there is an index without history.
-- A run may be claimed now when its time has come and no pause covers it; upkeep (below priority 0) has slots of its own,
-- and is late by design. Pauses are few: they are asked first, and the resource only where one names a tier or a team.
select
    run.queue as "engine!", 'queued' as "state!: RunState", count(*) as "runs!",
    coalesce(extract(epoch from now() - min(run.run_at) filter (
        where run.run_at <= now() and run.priority >= 0 and not exists (
            select from lastgood.pauses as pause
            where coalesce(pause.engine, run.queue) = run.queue
                and case
                    when pause.tier is null and pause.team is null then true
                    else exists (
                        select from lastgood.resources as r
                        where r.id = run.resource_id and coalesce(pause.tier, r.tier) = r.tier and coalesce(pause.team, r.team) = r.team
                    )
                end
        )
    )), 0)::float8 as "oldest_seconds!"
from lastgood.runs as run where run.state = 'queued' group by run.queue
union all
select queue, 'running', count(*), 0 from lastgood.runs where state = 'running' group by queue
