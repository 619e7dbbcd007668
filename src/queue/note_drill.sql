-- A drill of restore point $1 has ended: $2 is its outcome, $3 why it proved nothing, $4 how many seconds the restore took. Its resource
-- is locked by the finish that this belongs to. Returns whether a drill by another consumer than $5 found the point wanting as well,
-- after the last that proved it.
with point as (
    update lastgood.restore_points
    set drilled_at = clock_timestamp(), drill_outcome = case
        -- That nobody could try says nothing against what was found before.
        when $2 = 'not_possible' and drill_outcome in ('differs', 'failed') then drill_outcome
        else $2
    end
    where id = $1
    returning id, resource_id, drill_outcome
),
resource as (
    update lastgood.resources as r
    set drill_tried_at = clock_timestamp(), drill_outcome = point.drill_outcome,
        drill_because = case when point.drill_outcome = $2 then $3 else r.drill_because end,
        drill_point = $1, drills = r.drills + 1,
        drill_proven_at = case when $2 = 'proven' then clock_timestamp() else r.drill_proven_at end,
        restore_seconds = case when $2 = 'proven' then $4 else r.restore_seconds end,
        restore_measured_at = case when $2 = 'proven' then clock_timestamp() else r.restore_measured_at end
    from point where r.id = point.resource_id
)
select
    exists (
        select from lastgood.proofs as earlier
        where earlier.resource_id = point.resource_id and earlier.point = point.id and earlier.kind = 'drill'
            and earlier.outcome in ('differs', 'failed') and earlier.worker <> $5
            and not exists (
                select from lastgood.proofs as since
                where since.resource_id = point.resource_id and since.point = point.id and since.kind = 'drill'
                    and since.outcome = 'proven' and since.number > earlier.number
            )
    ) as "another_agrees!"
from point
