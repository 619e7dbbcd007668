-- Makes every active resource whose cadence is not the one its tier has now be looked at in the next tick. $1, $2: the
-- paid tiers and their cadences. Run at start and when the plans change, for it reads all resources.
update lastgood.resources as r
set next_due_at = now()
from lastgood.resources as s
left join unnest($1::text[], $2::integer[]) as paid (tier, cadence_minutes)
    on paid.tier = s.tier and coalesce(s.retention_days, 1) > 0
where r.id = s.id and s.status = 'active'
    and s.cadence_minutes is distinct from paid.cadence_minutes
    and (s.next_due_at is null or s.next_due_at > now())
