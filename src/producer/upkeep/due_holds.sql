-- The next $1 resources whose cadence is to be found again, and what their scheduled backups of the last 30 days took, from when each was
-- enqueued to its end: found by index, without a look at the runs. A resource that a clock running ahead
-- has put off for too long is due as well.
with due as materialized (
    select known.resource_id, known.is_infeasible, case when known.takes_seconds is not null then known.rpo_minutes end as rpo_minutes
    from lastgood.strict_holds as known
    where known.look_at <= now() or known.look_at > now() + interval '2 days'
    order by known.look_at limit $1
)
select
    r.id as "id!", r.tier as "tier!", r.status as "status!: ResourceStatus", r.strict_cadence_minutes,
    due.rpo_minutes as "rpo_minutes?", due.is_infeasible as "is_infeasible!", coalesce(took.backups, 0) as "backups!",
    took.p99_seconds, took.last_seconds
from due
join lastgood.resources as r on r.id = due.resource_id
left join lateral (
    select
        count(*) as backups,
        ceil(percentile_disc(0.99) within group (order by seconds))::bigint as p99_seconds,
        ceil((array_agg(seconds order by finished_at desc))[1])::bigint as last_seconds
    from (
        select run.finished_at, greatest(extract(epoch from run.finished_at - run.created_at), 0)::float8 as seconds
        from lastgood.runs as run
        where run.resource_id = r.id and run.kind = 'backup' and run.trigger = 'scheduled' and run.state = 'succeeded'
            and run.finished_at > now() - interval '30 days'
        -- Every five minutes for 30 days.
        order by run.finished_at desc limit 8640
    ) as backup
) as took on true
