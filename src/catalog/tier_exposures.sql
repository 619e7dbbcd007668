-- Exposure per tier. $1, $2: tiers, and the seconds that each allows (RPO and tolerance). Counted and stepped through in the index of each
-- tier by exposure, from its nearer end: nothing is sorted.
with plan as (
    select tier, allowed_seconds from unnest($1::text[], $2::float8[]) as paid (tier, allowed_seconds)
),
counted as materialized (
    select plan.tier, plan.allowed_seconds, (
            select count(*) from lastgood.resources as r
            where r.tier = plan.tier and r.status = 'active' and coalesce(r.retention_days, 1) > 0
        ) as resources
    from plan
),
-- The so-manieth by exposure, the least exposed first.
place as materialized (
    select counted.tier, q.quantile, counted.resources, greatest(1, ceil(q.quantile * counted.resources)::bigint) as nth
    from counted cross join unnest(array[0.5, 0.9, 0.99, 1]) as q (quantile)
    where counted.resources > 0
),
found as (
    select place.tier, place.quantile, extract(epoch from now() - case
            when place.nth * 2 <= place.resources then (
                select r.exposed_since from lastgood.resources as r
                where r.tier = place.tier and r.status = 'active' and coalesce(r.retention_days, 1) > 0
                order by r.exposed_since desc offset place.nth - 1 limit 1
            )
            else (
                select r.exposed_since from lastgood.resources as r
                where r.tier = place.tier and r.status = 'active' and coalesce(r.retention_days, 1) > 0
                order by r.exposed_since offset place.resources - place.nth limit 1
            )
        end)::float8 as seconds
    from place
),
quantiles as (
    select tier, array_agg(greatest(0, coalesce(seconds, 0)) order by quantile) as seconds from found group by tier
),
never as (
    select counted.tier, count(r.created_at) as resources, min(r.created_at) as oldest
    from counted left join lastgood.resources as r
        on r.tier = counted.tier and r.status = 'active' and coalesce(r.retention_days, 1) > 0 and r.newest_consistent_at is null
    group by counted.tier
)
select counted.tier as "tier!", counted.resources as "resources!", never.resources as "never_backed_up!",
    coalesce(greatest(0, extract(epoch from now() - never.oldest))::float8, 0) as "oldest_never_seconds!",
    (
        select count(*) from lastgood.resources as r
        where r.tier = counted.tier and r.status = 'active' and coalesce(r.retention_days, 1) > 0
            and r.exposed_since < now() - make_interval(secs => counted.allowed_seconds)
    ) as "broken!",
    quantiles.seconds[4]::bigint as "worst_seconds!",
    quantiles.seconds as "quantiles!"
from counted join quantiles on quantiles.tier = counted.tier join never on never.tier = counted.tier
order by counted.tier
