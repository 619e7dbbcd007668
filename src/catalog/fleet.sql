-- The next $2 protected resources behind $1, and what their scheduled backups of the last 30 days took, from an index alone: durations at
-- the quantiles $3, durations with waits, and medians by day.
select
    r.id, r.team, r.tier, r.engine, r.server, r.retention_days, r.spread, r.team_spread, coalesce(took.backups, 0) as "backups!",
    took.seconds, took.p99_seconds, took.last_seconds, took.days, took.day_seconds, took.day_bytes
from (
    select id, team, tier, engine, server, retention_days, spread, team_spread from lastgood.resources
    where id > $1 and status = 'active' and coalesce(retention_days, 1) > 0
    order by id limit $2
) as r
left join lateral (
    with backup as materialized (
        select
            run.finished_at, run.stored_bytes,
            greatest(extract(epoch from run.finished_at - coalesce(run.started_at, run.created_at)), 0)::float8 as seconds,
            greatest(extract(epoch from run.finished_at - run.created_at), 0)::float8 as with_wait
        from lastgood.runs as run
        where run.resource_id = r.id and run.kind = 'backup' and run.trigger = 'scheduled' and run.state = 'succeeded'
            and run.finished_at between now() - interval '30 days' and now()
        -- Every five minutes for 30 days.
        order by run.finished_at desc limit 8640
    ),
    by_day as (
        select
            extract(epoch from date_trunc('day', finished_at, 'UTC'))::float8 / 86400 as day,
            percentile_disc(0.5) within group (order by seconds) as seconds,
            percentile_disc(0.5) within group (order by stored_bytes)::float8 as bytes
        from backup group by 1
    )
    select
        count(*) as backups, percentile_disc($3::float8[]) within group (order by seconds) as seconds,
        percentile_disc(0.99) within group (order by with_wait) as p99_seconds,
        (array_agg(with_wait order by finished_at desc))[1] as last_seconds,
        (select array_agg(day order by day) from by_day) as days,
        (select array_agg(by_day.seconds order by day) from by_day) as day_seconds,
        (select array_agg(by_day.bytes order by day) from by_day) as day_bytes
    from backup
) as took on true
order by r.id
