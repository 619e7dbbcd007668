-- Records what was decided about resources whose RPO is held strictly, a list for each column: $1: which, $2: the RPOs, $3: the cadences,
-- $4: from how many backups, $5: what a backup is allowed, null if none is known, $6: whether no cadence holds the RPO, $7: in how many seconds
-- they are looked at again. A resource whose cadence changes is due at once: its slots are new ones. One with a live backup keeps its cadence for
-- now, for the slot of that backup is one of the old ones. Resources are locked before their holds, as a tick does.
with decided as materialized (
    select *
    from unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::integer[], $6::boolean[], $7::float8[])
        as it (resource_id, rpo_minutes, cadence_minutes, backups, takes_seconds, is_infeasible, again_in)
),
locked as materialized (
    select r.id, r.cadence_minutes as was, decided.*, r.cadence_minutes is distinct from decided.cadence_minutes and exists (
            select from lastgood.runs as live
            where live.resource_id = r.id and live.kind = 'backup' and live.trigger = 'scheduled' and live.state in ('queued', 'running')
        ) as must_wait
    from lastgood.resources as r join decided on decided.resource_id = r.id
    where r.status = 'active'
    order by r.id
    for no key update of r
),
changed as (
    update lastgood.resources as r
    set strict_cadence_minutes = locked.cadence_minutes, strict_rpo_minutes = locked.rpo_minutes,
        cadence_minutes = case when locked.was = locked.cadence_minutes then r.cadence_minutes end,
        next_due_at = case when locked.was = locked.cadence_minutes then r.next_due_at else now() end
    from locked
    where r.id = locked.id and not locked.must_wait
        and (r.strict_cadence_minutes, r.strict_rpo_minutes) is distinct from (locked.cadence_minutes, locked.rpo_minutes)
    returning locked.was is distinct from r.strict_cadence_minutes as is_another
),
noted as (
    update lastgood.strict_holds as known
    set look_at = now() + case when locked.must_wait then interval '5 minutes' else make_interval(secs => locked.again_in) end,
        planned_at = now(), rpo_minutes = locked.rpo_minutes, backups = locked.backups, takes_seconds = locked.takes_seconds,
        is_infeasible = locked.is_infeasible
    from locked
    where known.resource_id = locked.id
)
select count(*) as "changed!" from changed where is_another
