-- Removes history: of at most $4 runs behind ($2, $3) that ended more than $1 ago, those that nothing needs any more. $5: of these runs
-- alone; null: of all. A run stays while its restore point is there, and while it is what keeps its slot from being backed up again. What
-- somebody holds (an operator who retries it, say) stays for now.
with old as materialized (
    select run.id, run.finished_at, run.resource_id, run.kind, run.trigger, run.state, run.slot
    from lastgood.runs as run
    where run.finished_at < now() - $1::interval and (run.finished_at, run.id) > ($2::timestamptz, $3::uuid)
        and ($5::uuid[] is null or run.id = any ($5))
    order by run.finished_at, run.id
    limit $4
),
needless as materialized (
    select old.id
    from old join lastgood.resources as r on r.id = old.resource_id
    where not exists (select from lastgood.restore_points as point where point.id = old.id)
        and (
            old.trigger <> 'scheduled' or old.state <> 'succeeded' or r.cadence_minutes is null
            or old.slot < lastgood.slot_start(r.cadence_minutes, r.spread, r.team_spread, now())
        )
),
locked as materialized (
    select id from lastgood.runs
    where id in (select id from needless) and finished_at < now() - $1::interval
    for update skip locked
),
gone as (
    delete from lastgood.runs as run using locked where run.id = locked.id returning run.id
)
select
    (select count(*) from old) as "looked_at!", (select count(*) from gone) as "gone!",
    (select finished_at from old order by finished_at desc, id desc limit 1) as last_finished_at,
    (select id from old order by finished_at desc, id desc limit 1) as last_id
