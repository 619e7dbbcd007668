-- What the resources $1 were between $2 and $3: at its begin, and each change in it.
select wanted.id as "resource_id!", was.at as "at!", was.team as "team!", was.tier as "tier!", was.engine as "engine!",
    was.service as "service!"
from unnest($1::text[]) as wanted (id)
cross join lateral (
    (
        select greatest(at, timestamptz '1900-01-01 00:00:00+00') as at, nth, team, tier, engine, service
        from lastgood.resource_changes as earlier
        where earlier.resource_id = wanted.id and earlier.at <= $2
        order by earlier.at desc, earlier.nth desc limit 1
    )
    union all
    select at, nth, team, tier, engine, service from lastgood.resource_changes as later
    where later.resource_id = wanted.id and later.at > $2 and later.at < $3
) as was
order by wanted.id, was.at, was.nth
