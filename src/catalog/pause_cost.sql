-- What a pause of $3, $4, $5 (engine, tier, team; null: any) since $6 costs. $1, $2: the paid tiers, and what each allows in seconds.
select
    count(*) as "resources!",
    count(*) filter (where covered.breaks_at between $6 and now()) as "broken!",
    count(*) filter (where covered.breaks_at > now() and covered.breaks_at <= now() + interval '1 hour') as "breaking!",
    min(covered.breaks_at) filter (where covered.breaks_at > now()) as next_break_at
from (
    select lastgood.exposed_since(r.newest_consistent_at, r.created_at) + make_interval(secs => plan.allowed) as breaks_at
    from lastgood.resources as r join unnest($1::text[], $2::float8[]) as plan (tier, allowed) on plan.tier = r.tier
    where r.status = 'active' and coalesce(r.retention_days, 1) > 0
        and ($3::text is null or r.engine = $3) and ($4::text is null or r.tier = $4) and ($5::text is null or r.team = $5)
) as covered
