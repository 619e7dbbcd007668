-- One tick: every resource that is due gets a run, once. $1: now. $2, $3, $4: the paid tiers, their cadences and their RPOs in minutes.
-- $5: of these resources alone; null: of all. $6: which of the tiers are held strictly: there a resource has a cadence of its own, once one
-- was found for its RPO. Resources that are looked at are those whose `next_due_at` has come, found by index; each leaves with a new one.
with plan as (
    select tier, cadence_minutes, rpo_minutes, tier = any ($6::text[]) as is_strict
    from unnest($2::text[], $3::integer[], $4::integer[]) as paid (tier, cadence_minutes, rpo_minutes)
),
-- Locked before it is joined: a row that changed while it was waited for would be joined to its old tier's plan.
locked as materialized (
    select
        id, engine, tier, retention_days, spread, team_spread, newest_consistent_at, created_at, strict_cadence_minutes, strict_rpo_minutes
    from lastgood.resources
    where status = 'active' and next_due_at <= $1 and ($5::text[] is null or id = any ($5))
    for no key update skip locked
),
-- One whose tier is never backed up, or not known, has no cadence. The others are due, unless their slot is taken.
planned as (
    select
        r.*, plan.rpo_minutes, coalesce(plan.is_strict, false) as is_strict, own.is_held,
        case when own.is_held then r.strict_cadence_minutes else plan.cadence_minutes end as cadence_minutes
    from locked as r
    -- A row's own retention of zero or less is a veto, whatever its tier.
    left join plan on plan.tier = r.tier and coalesce(r.retention_days, 1) > 0
    cross join lateral (select coalesce(plan.is_strict and plan.rpo_minutes = r.strict_rpo_minutes, false) as is_held) as own
),
slotted as (
    select
        r.*, lastgood.slot_start(r.cadence_minutes, r.spread, r.team_spread, $1) as slot_start,
        lastgood.slot_start(r.cadence_minutes, r.spread, r.team_spread, $1)
            + lastgood.slot_offset(r.cadence_minutes, r.spread, r.team_spread) as turn
    from planned as r
),
looked_at as materialized (
    select
        r.id, r.engine, r.spread, r.team_spread, r.cadence_minutes, r.is_strict, r.is_held,
        -- A slot of another cadence may have the name of this one. If its backup was made before this slot began, this slot has none yet,
        -- and goes by the time of its turn. Only there is it looked for: a tier's cadence changes once in a while.
        case
            when (r.is_strict or r.strict_rpo_minutes is not null) and exists (
                select from lastgood.runs as other
                where other.resource_id = r.id and other.slot = r.slot_start and other.kind = 'backup' and other.trigger = 'scheduled'
                    and other.state = 'succeeded' and other.started_at < r.turn
            ) then r.turn
            else r.slot_start
        end as slot,
        -- When the promise breaks: what claims go by. Nothing is consistent to an instant yet to come.
        least(coalesce(r.newest_consistent_at, r.created_at), $1) + make_interval(mins => r.rpo_minutes) as due_by
    from slotted as r
),
-- Missed windows coalesce: a run that still waits moves to the current slot, and to the queue of the engine it has now. Unless that
-- slot has been backed up: the cadence was another one meanwhile. Then the run stays in its own.
moving as materialized (
    select
        waiting.id, waiting.slot as was, looked_at.engine, looked_at.due_by, greatest(waiting.slot, looked_at.slot) as slot,
        exists (
            select from lastgood.runs as other
            where other.resource_id = waiting.resource_id and other.slot = greatest(waiting.slot, looked_at.slot)
                and other.id <> waiting.id and other.kind = 'backup' and other.trigger = 'scheduled'
                and other.state in ('queued', 'running', 'succeeded')
        ) as is_taken
    from looked_at
    join lastgood.runs as waiting on waiting.resource_id = looked_at.id
    where waiting.kind = 'backup' and waiting.trigger = 'scheduled' and waiting.state = 'queued'
        and (waiting.slot < looked_at.slot or waiting.queue <> looked_at.engine)
),
coalesced as (
    update lastgood.runs as waiting
    set slot = case when moving.is_taken then waiting.slot else moving.slot end, queue = moving.engine,
        due_by = coalesce(moving.due_by, waiting.due_by)
    from moving
    where waiting.id = moving.id and waiting.state = 'queued' and waiting.slot = moving.was
    returning waiting.resource_id, moving.is_taken
),
enqueued as (
    insert into lastgood.runs (queue, kind, trigger, resource_id, priority, slot, due_by, args)
    select
        looked_at.engine, 'backup', 'scheduled', looked_at.id, lastgood.priority('backup', 'scheduled'), looked_at.slot,
        looked_at.due_by, (select lastgood.job('backup'))
    from looked_at
    where looked_at.slot is not null and looked_at.id not in (select resource_id from coalesced)
    on conflict do nothing
    returning resource_id
),
-- Until a cadence is found for it, a resource that is held strictly has its tier's.
held as (
    insert into lastgood.strict_holds as known (resource_id, look_at)
    select id, $1 from looked_at where is_strict and not is_held
    on conflict (resource_id) do update set look_at = excluded.look_at
    where known.look_at > excluded.look_at and known.planned_at is not null
),
noted as (
    update lastgood.resources as r
    set cadence_minutes = looked_at.cadence_minutes,
        strict_cadence_minutes = case when looked_at.is_held then r.strict_cadence_minutes end,
        strict_rpo_minutes = case when looked_at.is_held then r.strict_rpo_minutes end,
        next_due_at = case when looked_at.cadence_minutes is not null then lastgood.next_due(
            looked_at.cadence_minutes, r.spread, r.team_spread, $1, true
        ) end
    from looked_at
    where r.id = looked_at.id
)
select
    (select count(*) from looked_at) as "looked_at!",
    (select count(*) from enqueued) as "enqueued!",
    (select count(*) from coalesced where not is_taken) as "coalesced!",
    coalesce((select array_agg(resource_id order by resource_id) from coalesced where is_taken), '{}') as "left_out!"
