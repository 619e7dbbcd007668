-- The drills that are due. $1, $2: the tiers that are drilled, and within how many days each resource's proof is to be renewed. $3: at
-- most so many wait for each of the engines $4.
--
-- Each resource is drilled twice in that time: its newest trusted point, and then an older one at random. What proved nothing the last
-- time is tried again after six hours.
with plan as materialized (
    select tier, days * interval '12 hours' as every from unnest($1::text[], $2::int[]) as plan (tier, days) where days > 0
),
live as materialized (
    select queue, resource_id from lastgood.runs where state = 'queued' and kind = 'drill'
    union all
    select queue, resource_id from lastgood.runs where state = 'running' and kind = 'drill'
),
waiting as (
    select queue, count(*) as runs from live group by queue
),
tried as (
    select resource_id from live
    union all
    select resource_id from lastgood.runs
    where kind = 'drill' and finished_at is not null and finished_at > now() - interval '6 hours'
        and (state in ('failed', 'cancelled') or result ? 'skipped')
),
due as (
    select r.id, r.engine, r.drill_tried_at, r.drills
    from plan cross join unnest($4::text[]) as engine (name)
    cross join lateral (
        (
            select id, engine, drill_tried_at, drills from lastgood.resources
            where tier = plan.tier and engine = engine.name and newest_consistent_at is not null and status <> 'removed'
                and coalesce(drill_outcome, 'proven') = 'proven' and drill_tried_at is null
                and not exists (select from tried where tried.resource_id = resources.id)
            limit 2 * $3
        )
        union all
        (
            select id, engine, drill_tried_at, drills from lastgood.resources
            where tier = plan.tier and engine = engine.name and newest_consistent_at is not null and status <> 'removed'
                and coalesce(drill_outcome, 'proven') = 'proven'
                and drill_tried_at <= now() - plan.every * 0.75
                -- Resources that were registered together must not be due together for ever: each has its own instant in the last quarter.
                and drill_tried_at <= now() - plan.every * (1 - spread / 1073741824.0 / 4)
                and not exists (select from tried where tried.resource_id = resources.id)
            order by drill_tried_at limit 2 * $3
        )
        union all
        (
            select id, engine, drill_tried_at, drills from lastgood.resources
            where tier = plan.tier and engine = engine.name and newest_consistent_at is not null and status <> 'removed'
                and drill_outcome in ('differs', 'failed', 'not_possible')
                and drill_tried_at <= now() - least(plan.every, interval '6 hours')
                and not exists (select from tried where tried.resource_id = resources.id)
            order by drill_tried_at limit 2 * $3
        )
    ) as r
),
ranked as (
    select due.*, row_number() over (partition by engine order by drill_tried_at nulls first, id) as turn from due
),
chosen as materialized (
    select ranked.* from ranked left join waiting on waiting.queue = ranked.engine
    where ranked.turn <= $3 - coalesce(waiting.runs, 0)
)
select
    chosen.engine as "queue!", chosen.id as "resource_id!",
    lastgood.job('drill', point.id) as "args!"
from chosen
cross join lateral (
    select candidate.id
    from (
        select id, consistent_at, row_number() over (order by consistent_at desc) as age
        from lastgood.trusted_points where resource_id = chosen.id
    ) as candidate
    -- Of the older ones any, every other time, where there are some.
    order by case when chosen.drills % 2 = 0 then candidate.age when candidate.age = 1 then 2 else random() end
    limit 1
) as point
order by chosen.drill_tried_at nulls first
