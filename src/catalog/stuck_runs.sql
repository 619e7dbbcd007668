-- Runs that could have been claimed $1 seconds ago, and that nobody has; and runs whose lease ran out as long ago. Neither what a
-- pause holds back nor upkeep (below priority 0) is stuck: queue_depths.sql says the same of its oldest.
select
    run.id as "id!", run.resource_id as "resource!", run.queue as "engine!", run.kind as "kind!: RunKind", run.state as "state!: RunState",
    run.run_at as "stuck_at!"
from lastgood.runs as run
where run.state = 'queued' and run.run_at < now() - make_interval(secs => $1) and run.priority >= 0
    and not exists (
        select from lastgood.pauses as pause join lastgood.resources as r on r.id = run.resource_id
        where coalesce(pause.engine, run.queue) = run.queue and coalesce(pause.tier, r.tier) = r.tier
            and coalesce(pause.team, r.team) = r.team
    )
union all
select id, resource_id, queue, kind, state, lease_until
from lastgood.runs where state = 'running' and lease_until < now() - make_interval(secs => $1)
order by 6 limit 100
