-- Sums up the day $1. $2: for these teams alone; null: for all.
with sums as (
    select team, tier, count(*)::integer as resources, sum(promised_seconds) as promised_seconds, sum(late_seconds) as late_seconds,
        sum(broken_seconds) as broken_seconds, sum(paused_seconds) as paused_seconds, sum(down_seconds) as down_seconds,
        max(worst_exposure_seconds) as worst_exposure_seconds
    from lastgood.promise_days
    where day = $1 and ($2::text[] is null or team = any ($2))
    group by team, tier
),
gone as (
    delete from lastgood.promise_totals as known
    where known.day = $1 and ($2::text[] is null or known.team = any ($2))
        and not exists (select from sums where sums.team = known.team and sums.tier = known.tier)
)
insert into lastgood.promise_totals (
    day, team, tier, resources, promised_seconds, late_seconds, broken_seconds, paused_seconds, down_seconds, worst_exposure_seconds
)
select
    $1, team, tier, resources, promised_seconds, late_seconds, broken_seconds, paused_seconds, down_seconds, worst_exposure_seconds
from sums order by team, tier
on conflict (day, team, tier) do update
set resources = excluded.resources, promised_seconds = excluded.promised_seconds, late_seconds = excluded.late_seconds,
    broken_seconds = excluded.broken_seconds, paused_seconds = excluded.paused_seconds, down_seconds = excluded.down_seconds,
    worst_exposure_seconds = excluded.worst_exposure_seconds
