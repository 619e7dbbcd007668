-- The distinct tiers of active resources that are not in $1, found by stepping through the index, and their counts.
with recursive steps as (
    (select tier from lastgood.resources where status = 'active' order by tier limit 1)
    union all
    select (select r.tier from lastgood.resources as r where r.status = 'active' and r.tier > steps.tier order by r.tier limit 1)
    from steps where steps.tier is not null
)
select steps.tier as "id!",
    (select count(*) from lastgood.resources as r where r.status = 'active' and r.tier = steps.tier) as "resources!"
from steps where steps.tier is not null and steps.tier <> all ($1::text[])
