-- Mends runs from the future: their times come from a clock that was ahead by more than $1. $2: the lease. $3: of these
-- resources alone; null: of all. Else a run would wait, and a
-- lost worker hold it, until the clock has been there again, and a slot that was backed up then would not be backed up when it comes.
-- Resources are locked before runs, as a tick does; what somebody holds is mended the next time.
with future as materialized (
    -- No back-off is longer than 12.5 minutes.
    select id, resource_id from lastgood.runs
    where state = 'queued' and (run_at > now() + $1::interval + interval '15 minutes' or slot > now() + $1)
    union
    select id, resource_id from lastgood.runs
    where state = 'running'
        and (lease_until > now() + $1 + $2::interval or started_at > now() + $1 or slot > now() + $1 or created_at > now() + $1)
    union
    select id, resource_id from lastgood.runs where state <> 'running' and created_at > now() + $1
    union
    select id, resource_id from lastgood.runs where finished_at > now() + $1
),
owner as materialized (
    select id from lastgood.resources
    where id in (select resource_id from future) and ($3::text[] is null or id = any ($3))
    order by id
    for no key update skip locked
),
locked as materialized (
    select run.id
    from lastgood.runs as run join owner on owner.id = run.resource_id
    where run.id in (select id from future)
    for update of run skip locked
),
numbered as (
    select id, row_number() over (order by id) as place from locked
)
update lastgood.runs as run
set created_at = least(run.created_at, now()),
    started_at = case when run.started_at > now() then now() else run.started_at end,
    finished_at = case when run.finished_at > now() then now() else run.finished_at end,
    run_at = case when run.run_at > now() + $1 + interval '15 minutes' then now() else run.run_at end,
    due_by = case when run.created_at > now() + $1 or run.slot > now() + $1 then least(run.due_by, now()) else run.due_by end,
    lease_until = case when run.lease_until > now() + $1 + $2 then now() + $2 else run.lease_until end,
    -- A slot of its own, of no window: what is yet to come is free again, and what waits moves to the current one.
    slot = case when run.slot > now() + $1 then now() - interval '1 day' - numbered.place * interval '1 microsecond' else run.slot end
from numbered
where run.id = numbered.id
returning run.resource_id
