-- Records what the tiers promise from now on, where that is new. $1, $2, $3: every tier of the plans, its RPO, 0 for one that is never
-- backed up, and its tolerance. A tier that is no more in the plans promises nothing.
with given as (
    select * from unnest($1::text[], $2::integer[], $3::integer[]) as given (tier, rpo_minutes, tolerance_minutes)
),
latest as (
    select distinct on (tier) tier, rpo_minutes, tolerance_minutes from lastgood.tier_promises order by tier, since desc
)
insert into lastgood.tier_promises (tier, since, rpo_minutes, tolerance_minutes)
select coalesce(given.tier, latest.tier), now(), coalesce(given.rpo_minutes, 0), coalesce(given.tolerance_minutes, 0)
from given full join latest on latest.tier = given.tier
where (coalesce(given.rpo_minutes, 0), coalesce(given.tolerance_minutes, 0))
    is distinct from (latest.rpo_minutes, latest.tolerance_minutes)
on conflict (tier, since) do update set rpo_minutes = excluded.rpo_minutes, tolerance_minutes = excluded.tolerance_minutes
