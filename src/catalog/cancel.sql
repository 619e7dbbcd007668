-- Cancels run $1, with the reason $2: one that waits, at once; one that runs is fenced here, and whoever executes it is told.
-- A scheduled backup leaves its resource due at its next turn, not at once. The resource is locked before the run, as a tick does.
with owner as materialized (
    select id from lastgood.resources
    where id = (select resource_id from lastgood.runs where id = $1)
    for no key update
),
before as materialized (
    select run.id, run.resource_id, run.kind, run.state
    from lastgood.runs as run join owner on owner.id = run.resource_id
    where run.id = $1
    for update of run
),
ended as (
    update lastgood.runs as run
    set state = 'cancelled', epoch = run.epoch + 1, lease_by = null, lease_until = null, finished_at = clock_timestamp(),
        error_kind = 'cancelled', error = $2, error_detail = null
    from before
    where run.id = before.id and before.state in ('queued', 'running')
    returning run.id, run.resource_id, run.kind, run.trigger
),
resource as (
    update lastgood.resources as r
    set next_due_at = greatest(r.next_due_at, lastgood.next_due(r.cadence_minutes, r.spread, r.team_spread, now(), true))
    from ended
    where r.id = ended.resource_id and ended.kind = 'backup' and ended.trigger = 'scheduled'
        and r.status = 'active' and r.cadence_minutes is not null
),
told as (select pg_notify('lastgood_orders', id::text) from ended)
select
    before.resource_id as "resource_id!", before.kind as "kind!", before.state as "was!", ended.id is not null as "is_done!",
    (select count(*) from told) as "told!"
from before left join ended on ended.id = before.id
