-- Counts for how long the tiers' promises stood, and were broken, from $3 until $4. $1, $2: the tiers, and the seconds that each allows.
-- What is still broken is found by index; what was, by the points that ended it. What is paused now is left out.
with plan as (
    select tier, make_interval(secs => allowed_seconds) as allowed from unnest($1::text[], $2::float8[]) as paid (tier, allowed_seconds)
),
served as (
    select plan.tier, count(*) as resources,
        sum(extract(epoch from $4::timestamptz - greatest($3::timestamptz, least(r.created_at, $4)))) as seconds
    from plan join lastgood.resources as r on r.tier = plan.tier
    where r.status = 'active' and coalesce(r.retention_days, 1) > 0 and not exists (
        select from lastgood.pauses as pause
        where coalesce(pause.engine, r.engine) = r.engine and coalesce(pause.tier, r.tier) = r.tier
            and coalesce(pause.team, r.team) = r.team
    )
    group by plan.tier
),
still as (
    select plan.tier, greatest(
            $3, r.exposed_since + plan.allowed,
            (
                select newest.created_at from lastgood.trusted_points as newest
                where newest.resource_id = r.id order by newest.consistent_at desc limit 1
            )
        ) as began_at, $4::timestamptz as ended_at
    from plan join lastgood.resources as r on r.tier = plan.tier and r.exposed_since < $4 - plan.allowed
    where r.status = 'active' and coalesce(r.retention_days, 1) > 0 and not exists (
        select from lastgood.pauses as pause
        where coalesce(pause.engine, r.engine) = r.engine and coalesce(pause.tier, r.tier) = r.tier
            and coalesce(pause.team, r.team) = r.team
    )
),
ended as (
    select plan.tier, greatest($3, coalesce(before.consistent_at, r.created_at) + plan.allowed, before.created_at) as began_at,
        point.created_at as ended_at
    from lastgood.trusted_points as point
    join lastgood.resources as r on r.id = point.resource_id and r.status = 'active' and coalesce(r.retention_days, 1) > 0
    join plan on plan.tier = r.tier
    left join lateral (
        select max(earlier.consistent_at) as consistent_at, max(earlier.created_at) as created_at
        from (
            select of_it.consistent_at, of_it.created_at from lastgood.trusted_points as of_it
            where of_it.resource_id = point.resource_id and of_it.created_at < point.created_at
            order by of_it.consistent_at desc limit 4
        ) as earlier
    ) as before on true
    where point.created_at > $3 and point.created_at <= $4
        and not exists (
            select from lastgood.pauses as pause
            where coalesce(pause.engine, r.engine) = r.engine and coalesce(pause.tier, r.tier) = r.tier
                and coalesce(pause.team, r.team) = r.team
        )
),
broken as (
    select tier, sum(greatest(0, extract(epoch from ended_at - began_at))) as seconds
    from (select * from still union all select * from ended) as breaches
    group by tier
)
insert into lastgood.promise_slices (until, tier, began_at, promised_seconds, broken_seconds)
select $4, served.tier, $3, served.seconds::float8, least(served.seconds, coalesce(broken.seconds, 0))::float8
from served left join broken on broken.tier = served.tier
on conflict do nothing
