-- Exposure per tier, sorted: of one team, or of all while some are dated in the future. $1, $2: tiers, and the seconds that each allows (RPO and tolerance).
-- $3: of one team's resources alone; null: of all.
with plan as (
    select tier, allowed_seconds from unnest($1::text[], $2::float8[]) as paid (tier, allowed_seconds)
),
exposed as (
    select r.tier, r.newest_consistent_at is null as never, plan.allowed_seconds,
        greatest(0, extract(epoch from now() - lastgood.exposed_since(r.newest_consistent_at, r.created_at)))::float8 as seconds
    from lastgood.resources as r join plan on plan.tier = r.tier
    where r.status = 'active' and coalesce(r.retention_days, 1) > 0
        and ($3::text is null or r.team = $3)
)
select tier as "tier!", count(*) as "resources!",
    count(*) filter (where never) as "never_backed_up!",
    coalesce(max(seconds) filter (where never), 0) as "oldest_never_seconds!",
    count(*) filter (where seconds > allowed_seconds) as "broken!",
    max(seconds)::bigint as "worst_seconds!",
    percentile_disc(array[0.5, 0.9, 0.99, 1]) within group (order by seconds) as "quantiles!"
from exposed group by tier order by tier
