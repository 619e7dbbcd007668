-- The verifications that are due. $1: each usable restore point is proven at least so often, in each store that holds it. $2: each resource
-- has a proof that is no older than this. $3: at most so many of an engine wait or run. $4: engines. A verification that failed or was
-- cancelled is asked for again after six hours; suspect points are read back too, and prove nothing about their resource; what it found
-- damaged is quarantined, and no more usable.
with live as (
    select queue, kind, resource_id, args ->> 'point' as point, args ->> 'store' as store
    from lastgood.runs where state = 'queued'
    union all
    select queue, kind, resource_id, args ->> 'point', args ->> 'store' from lastgood.runs where state = 'running'
),
waiting as (
    select queue, count(*) as runs from live where kind = 'verify' group by queue
),
tried as (
    select resource_id, point, store from live where kind = 'verify'
    union all
    select resource_id, args ->> 'point', args ->> 'store' from lastgood.runs
    where kind in ('copy', 'verify', 'expire') and state in ('failed', 'cancelled') and kind = 'verify'
        and finished_at > now() - interval '6 hours'
),
-- The resources whose newest proof is the oldest, found by index: $3 times ten of an engine are more than are asked for.
unproven as (
    select r.id, r.engine, r.spread, r.proven_at
    from unnest($4::text[]) as engine (name)
    left join waiting on waiting.queue = engine.name
    cross join lateral (
        (
            select id, engine, spread, proven_at from lastgood.resources
            where engine = engine.name and newest_consistent_at is not null and proven_at is null
                and not exists (select from tried where tried.resource_id = resources.id)
            order by proven_at nulls first, id limit 10 * $3
        )
        union all
        (
            select id, engine, spread, proven_at from lastgood.resources
            where engine = engine.name and newest_consistent_at is not null and proven_at <= now() - $2::interval * 0.75
                and not exists (select from tried where tried.resource_id = resources.id)
            order by proven_at limit 10 * $3
        )
    ) as r
    where coalesce(waiting.runs, 0) < $3
),
-- Resources that were registered together must not be due together for ever: each has its own instant in the last quarter.
newest as (
    -- In the store where that is longest ago; one that nothing is recorded of is looked for in all.
    select point.id, point.resource_id, r.engine, '-infinity'::timestamptz as since, (
            select c.store from lastgood.copies as c where c.point_id = point.id order by c.verified_at nulls first, c.store limit 1
        ) as store
    from unproven as r
    cross join lateral (
        select id, resource_id from lastgood.trusted_points
        where resource_id = r.id
        order by consistent_at desc limit 1
    ) as point
    where coalesce(r.proven_at, '-infinity') <= now() - $2::interval * (1 - r.spread / 1073741824.0)
),
oldest as (
    select point.id, point.resource_id, r.engine, coalesce(copy.verified_at, copy.stored_at) as since, copy.store
    from lastgood.copies as copy
    join lastgood.usable_points as point on point.id = copy.point_id
    join lastgood.resources as r on r.id = point.resource_id
    left join waiting on waiting.queue = r.engine
    where coalesce(copy.verified_at, copy.stored_at) < now() - $1::interval * 0.9
        and coalesce(waiting.runs, 0) < $3
        and not exists (
            select from tried
            where tried.point = point.id::text and (tried.store is null or tried.store = copy.store)
        )
    order by coalesce(copy.verified_at, copy.stored_at)
    limit 10 * $3
),
due as (
    select id, resource_id, engine, store, min(since) as since
    from (select * from newest union all select * from oldest) as both_kinds
    group by id, resource_id, engine, store
),
ranked as (
    select due.*, row_number() over (partition by engine order by since, id, store) as turn from due
)
select
    ranked.engine as "queue!", ranked.resource_id as "resource_id!",
    jsonb_strip_nulls(jsonb_build_object('kind', 'verify', 'point', ranked.id, 'store', ranked.store)) as "args!"
from ranked left join waiting on waiting.queue = ranked.engine
where ranked.turn <= $3 - coalesce(waiting.runs, 0)
order by ranked.since
