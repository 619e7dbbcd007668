-- Each engine's resources that are not proven restorable. $1, $2: the tiers that are drilled, and within how many days. What was
-- registered lately has that long as well.
with plan as materialized (
    select tier, days * interval '1 day' as within from unnest($1::text[], $2::int[]) as plan (tier, days) where days > 0
)
select
    r.engine as "engine!",
    count(*) filter (where coalesce(r.drill_proven_at, r.created_at) < now() - plan.within) as "overdue!",
    count(*) filter (where r.drill_outcome in ('differs', 'failed')) as "wanting!",
    count(*) filter (where r.drill_outcome = 'not_possible') as "not_possible!"
from plan
join lastgood.resources as r on r.tier = plan.tier
where r.newest_consistent_at is not null and r.status <> 'removed'
    and (
        (r.drill_proven_at is null or r.drill_proven_at < now() - plan.within)
        or r.drill_outcome in ('differs', 'failed', 'not_possible')
    )
group by r.engine
