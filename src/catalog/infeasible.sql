-- The resources whose RPO no cadence holds, those that lack most first. $1: the tiers that are held strictly. $2: of this team; null: of
-- all. $3: at most.
select
    r.id, r.team, r.tier, r.engine, known.rpo_minutes as "rpo_minutes!", known.takes_seconds as "takes_seconds!",
    known.backups as "backups!", known.planned_at as "planned_at!"
from lastgood.strict_holds as known join lastgood.resources as r on r.id = known.resource_id
where known.is_infeasible and r.status = 'active' and coalesce(r.retention_days, 1) > 0 and r.tier = any ($1)
    and ($2::text is null or r.team = $2)
order by known.takes_seconds::float8 / known.rpo_minutes desc, r.id
limit $3
