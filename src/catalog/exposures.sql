-- The active resources on the tiers $1, first those that have used up most of the $2 seconds that their tier allows; $3 of them at most. Of each
-- tier the most exposed are found by index.
select r.id, r.team, r.tier, r.engine, r.created_at, r.newest_consistent_at, r.failures_in_a_row, r.next_due_at,
    r.drill_proven_at as proven_at, r.restore_seconds,
    (
        select point.manifest ->> 'consistency' from lastgood.trusted_points as point
        where point.resource_id = r.id order by point.consistent_at desc limit 1
    ) as consistency,
    (
        select point.suspected_of from lastgood.usable_points as point
        where point.resource_id = r.id and point.suspected_at is not null
            and point.consistent_at > coalesce(r.newest_consistent_at, '-infinity')
        order by point.consistent_at desc limit 1
    ) as suspected_of
from unnest($1::text[], $2::float8[]) as plan (tier, allowed)
cross join lateral (
    select * from lastgood.resources as most
    where most.tier = plan.tier and most.status = 'active' and coalesce(most.retention_days, 1) > 0
    order by most.exposed_since, most.id limit $3
) as r
order by extract(epoch from now() - r.exposed_since) / plan.allowed desc, r.id
limit $3
