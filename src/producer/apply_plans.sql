-- Makes every active resource be looked at in the next tick whose planning cannot be right: another cadence than its tier has now, no due
-- time though its tier is backed up, or one further ahead than any can be. $1, $2: the paid tiers and their cadences. $3: of these
-- resources alone; null: of all. $4: the tiers that are held strictly, where a resource may have a cadence of its own; $5: which these can
-- be; $6: the RPOs of the paid tiers. Those are found by index, tier by tier, and what is right is not read: but for those whose own retention
-- vetoes them. Run at start, when the plans change, and every few minutes, for another producer with other plans, or a clock that jumped,
-- may have planned them.
with recursive steps as (
    (select tier from lastgood.resources where status = 'active' order by tier limit 1)
    union all
    select (select r.tier from lastgood.resources as r where r.status = 'active' and r.tier > steps.tier order by r.tier limit 1)
    from steps where steps.tier is not null
),
tier as (
    select steps.tier, paid.cadence_minutes, paid.rpo_minutes, steps.tier = any ($4::text[]) as is_strict
    from steps left join unnest($1::text[], $2::integer[], $6::integer[]) as paid (tier, cadence_minutes, rpo_minutes) on paid.tier = steps.tier
    where steps.tier is not null
),
suspicious as (
    select r.id from tier cross join lateral (
        -- Planned, and otherwise than the tier says, or not to be planned at all.
        select id from lastgood.resources
        where tier = tier.tier and status = 'active' and cadence_minutes < tier.cadence_minutes and not tier.is_strict
        union all
        select id from lastgood.resources
        where tier = tier.tier and status = 'active' and cadence_minutes > coalesce(tier.cadence_minutes, 0) and not tier.is_strict
        union all
        -- Planned otherwise than by the cadence of its own, or by one that was found for another RPO.
        select id from lastgood.resources
        where tier = tier.tier and status = 'active' and strict_cadence_minutes is not null
            and cadence_minutes <> strict_cadence_minutes and tier.is_strict
        union all
        select id from lastgood.resources
        where tier = tier.tier and status = 'active' and strict_rpo_minutes < tier.rpo_minutes and tier.is_strict
        union all
        select id from lastgood.resources
        where tier = tier.tier and status = 'active' and strict_rpo_minutes > tier.rpo_minutes and tier.is_strict
        union all
        -- Not planned, though the tier is backed up.
        select id from lastgood.resources
        where tier = tier.tier and status = 'active' and cadence_minutes is null and tier.cadence_minutes is not null
        union all
        -- Planned as it should be, and due never, or too late.
        select id from lastgood.resources
        where tier = tier.tier and status = 'active' and cadence_minutes = tier.cadence_minutes and next_due_at is null
        union all
        select id from lastgood.resources
        where tier = tier.tier and status = 'active' and cadence_minutes = tier.cadence_minutes
            and next_due_at > now() + make_interval(mins => 2 * tier.cadence_minutes)
        union all
        -- The same for each cadence of a resource's own; `offset` keeps an index from being read for all of them at once.
        select r.id from unnest(case when tier.is_strict then $5::integer[] end) as own (minutes)
        cross join lateral (
            select id from lastgood.resources
            where tier = tier.tier and status = 'active' and strict_rpo_minutes = tier.rpo_minutes
                and strict_cadence_minutes = own.minutes and cadence_minutes is not null
                and (next_due_at is null or next_due_at > now() + make_interval(mins => 2 * own.minutes))
            offset 0
        ) as r
    ) as r
    union all
    -- Vetoed by its own retention, and planned.
    select id from lastgood.resources
    where (status = 'paused' or (status = 'active' and retention_days <= 0)) and status = 'active' and cadence_minutes is not null
),
wrong as materialized (
    select r.id
    from lastgood.resources as r
    left join unnest($1::text[], $2::integer[], $6::integer[]) as plan (tier, cadence_minutes, rpo_minutes)
        on plan.tier = r.tier and coalesce(r.retention_days, 1) > 0
    cross join lateral (
        select case
            when plan.tier = any ($4::text[]) and plan.rpo_minutes = r.strict_rpo_minutes then r.strict_cadence_minutes
            else plan.cadence_minutes
        end as cadence_minutes
    ) as paid
    where r.id = any (array(select id from suspicious)) and r.status = 'active' and ($3::text[] is null or r.id = any ($3))
    and (r.next_due_at is null or r.next_due_at > now()) and (
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
