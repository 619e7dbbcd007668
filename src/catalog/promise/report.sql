-- The sums from the day $1 to the day $2, by tier, or by team and tier where $5. $3, $4: of one team, of one tier; null: of all.
select case when $5::boolean then team end as team, tier,
    sum(promised_seconds)::bigint as "promised_seconds!", sum(late_seconds)::bigint as "late_seconds!",
    sum(broken_seconds)::bigint as "broken_seconds!", sum(paused_seconds)::bigint as "paused_seconds!",
    sum(down_seconds)::bigint as "down_seconds!", max(worst_exposure_seconds) as "worst_exposure_seconds!",
    max(resources_of_day)::bigint as "resources!"
from (
    select day, team, tier, promised_seconds, late_seconds, broken_seconds, paused_seconds, down_seconds, worst_exposure_seconds,
        sum(resources) over (partition by day, tier, case when $5 then team end) as resources_of_day
    from lastgood.promise_totals
    where day between $1 and $2 and ($3::text is null or team = $3) and ($4::text is null or tier = $4)
) as totals
group by 1, 2
order by sum(broken_seconds)::float8 / nullif(sum(promised_seconds), 0) desc nulls last, 1, 2
limit $6
