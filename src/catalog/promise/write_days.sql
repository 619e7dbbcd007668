-- Makes what is on record of the day $1 and the resources $2 what was counted: $3 to $12, a list for each column. Rows that are right
-- already are not written again.
with given as (
    select * from unnest(
        $3::text[], $4::text[], $5::text[], $6::integer[], $7::integer[], $8::integer[], $9::integer[], $10::integer[], $11::integer[],
        $12::bigint[]
    ) as given (
        resource_id, team, tier, rpo_minutes, promised_seconds, late_seconds, broken_seconds, paused_seconds, down_seconds,
        worst_exposure_seconds
    )
),
gone as (
    delete from lastgood.promise_days as known
    where known.day = $1 and known.resource_id = any ($2) and not exists (
        select from given
        where given.resource_id = known.resource_id and given.team = known.team and given.tier = known.tier
    )
)
insert into lastgood.promise_days as known (
    day, resource_id, team, tier, rpo_minutes, promised_seconds, late_seconds, broken_seconds, paused_seconds, down_seconds,
    worst_exposure_seconds
)
select
    $1, resource_id, team, tier, rpo_minutes, promised_seconds, late_seconds, broken_seconds, paused_seconds, down_seconds,
    worst_exposure_seconds
from given order by resource_id
on conflict (day, resource_id, tier, team) do update
set rpo_minutes = excluded.rpo_minutes, promised_seconds = excluded.promised_seconds, late_seconds = excluded.late_seconds,
    broken_seconds = excluded.broken_seconds, paused_seconds = excluded.paused_seconds, down_seconds = excluded.down_seconds,
    worst_exposure_seconds = excluded.worst_exposure_seconds
where (
    known.rpo_minutes, known.promised_seconds, known.late_seconds, known.broken_seconds, known.paused_seconds, known.down_seconds,
    known.worst_exposure_seconds
) is distinct from (
    excluded.rpo_minutes, excluded.promised_seconds, excluded.late_seconds, excluded.broken_seconds, excluded.paused_seconds,
    excluded.down_seconds, excluded.worst_exposure_seconds
)
