-- The resources whose promise was broken for longest from the day $1 to the day $2, $5 of them. $3, $4: of one team, of one tier; null: of
-- all. Days on which nothing was broken are not read until it is known which resources these are.
with worst as materialized (
    select resource_id from lastgood.promise_days
    where broken_seconds > 0 and day between $1 and $2 and ($3::text is null or team = $3) and ($4::text is null or tier = $4)
    group by resource_id order by sum(broken_seconds) desc, resource_id limit $5
)
select counted.resource_id as "resource_id!", counted.team as "team!", counted.tier as "tier!",
    sum(counted.promised_seconds)::bigint as "promised_seconds!", sum(counted.late_seconds)::bigint as "late_seconds!",
    sum(counted.broken_seconds)::bigint as "broken_seconds!", sum(counted.paused_seconds)::bigint as "paused_seconds!",
    sum(counted.down_seconds)::bigint as "down_seconds!", max(counted.worst_exposure_seconds) as "worst_exposure_seconds!"
from worst join lastgood.promise_days as counted on counted.resource_id = worst.resource_id
where counted.day between $1 and $2 and ($3 is null or counted.team = $3) and ($4 is null or counted.tier = $4)
group by counted.resource_id, counted.team, counted.tier
order by sum(counted.broken_seconds) desc, counted.resource_id, counted.team, counted.tier
limit $5
