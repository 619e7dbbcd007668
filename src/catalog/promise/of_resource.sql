-- How the promise was kept for the resource $5 from the day $1 to the day $2. $3, $4: as one team's, on one tier; null: as any's, on any.
select resource_id as "resource_id!", team as "team!", tier as "tier!",
    sum(promised_seconds)::bigint as "promised_seconds!", sum(late_seconds)::bigint as "late_seconds!",
    sum(broken_seconds)::bigint as "broken_seconds!", sum(paused_seconds)::bigint as "paused_seconds!",
    sum(down_seconds)::bigint as "down_seconds!", max(worst_exposure_seconds) as "worst_exposure_seconds!"
from lastgood.promise_days
where resource_id = $5 and day between $1 and $2 and ($3::text is null or team = $3) and ($4::text is null or tier = $4)
group by resource_id, team, tier
order by team, tier
