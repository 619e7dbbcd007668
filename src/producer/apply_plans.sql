-- Makes every active resource be looked at in the next tick whose planning cannot be right: another cadence than its tier has
-- now, no due time though its tier is backed up, or one further ahead than any can be. $1, $2: the paid tiers and their
-- cadences. It reads all resources: run at start, when the plans change, and every few minutes, for another producer with
-- other plans, or a clock that jumped, may have planned them.
with wrong as materialized (
    select r.id
    from lastgood.resources as r
    left join unnest($1::text[], $2::integer[]) as paid (tier, cadence_minutes)
        on paid.tier = r.tier and coalesce(r.retention_days, 1) > 0
    where r.status = 'active' and (r.next_due_at is null or r.next_due_at > now()) and (
        r.cadence_minutes is distinct from paid.cadence_minutes
        or (paid.cadence_minutes is not null and r.next_due_at is null)
        or r.next_due_at > now() + make_interval(mins => 2 * paid.cadence_minutes)
    )
    -- What somebody holds is looked at by them, or by the next of these.
    for no key update of r skip locked
)
update lastgood.resources as r
set next_due_at = now(), cadence_minutes = null
from wrong
where r.id = wrong.id and r.status = 'active'
