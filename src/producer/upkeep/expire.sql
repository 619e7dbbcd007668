-- The removals of expired points that are due, those first that were let go first. $1: engines. $2: at most so many of an engine wait
-- or run. A removal that failed or was cancelled is asked for again after an hour; one that a store refused, after a week.
with live as (
    select queue, args ->> 'point' as point from lastgood.runs where state = 'queued' and kind = 'expire'
    union all
    select queue, args ->> 'point' from lastgood.runs where state = 'running' and kind = 'expire'
),
waiting as (
    select engine.name as engine, (select count(*) from live where live.queue = engine.name) as runs
    from unnest($1::text[]) as engine (name)
),
tried as (
    select point from live
    union all
    select args ->> 'point' from lastgood.runs
    where kind in ('copy', 'verify', 'expire') and state in ('failed', 'cancelled') and kind = 'expire'
        and finished_at > now() - interval '1 hour'
)
select
    waiting.engine as "queue!", due.resource_id as "resource_id!", jsonb_build_object('kind', 'expire', 'point', due.id) as "args!"
from waiting cross join lateral (
    select point.id, point.resource_id
    from lastgood.restore_points as point join lastgood.resources as r on r.id = point.resource_id
    where r.engine = waiting.engine and point.expired_at is not null and point.pinned_at is null and point.held_at is null
        and (point.refused_at is null or point.refused_at < now() - interval '7 days')
        and not exists (select from tried where tried.point = point.id::text)
    order by point.expired_at
    limit greatest(0, $2::bigint - waiting.runs)
) as due
