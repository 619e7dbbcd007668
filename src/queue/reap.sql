-- Takes back runs whose worker let the lease expire: to the queue, or failed once their attempts are spent. Not within
-- one lease ($1) of the catalog's own start: no worker could renew while it was down. $2: of these runs alone; null: of all.
-- Resources are locked before runs, as a tick does; what somebody holds is taken the next time.
with lost as materialized (
    select id, resource_id from lastgood.runs
    where state = 'running' and lease_until < now() and pg_postmaster_start_time() < now() - $1::interval
        and ($2::uuid[] is null or id = any ($2))
    limit 1000
),
owner as materialized (
    select id from lastgood.resources
    where id in (select resource_id from lost)
    order by id
    for no key update skip locked
),
expired as materialized (
    select run.id
    from lastgood.runs as run join owner on owner.id = run.resource_id
    where run.id in (select id from lost) and run.state = 'running' and run.lease_until < now()
    for update of run skip locked
),
taken as (
    update lastgood.runs as run
    set epoch = run.epoch + 1, lease_by = null, lease_until = null,
        state = case when run.attempt >= run.max_attempts then 'failed' else 'queued' end,
        finished_at = case when run.attempt >= run.max_attempts then clock_timestamp() end,
        error_kind = 'worker_lost',
        error = format('worker %s stopped renewing its lease in attempt %s of %s', run.lease_by, run.attempt, run.max_attempts)
    from expired
    where run.id = expired.id
    returning run.id, run.queue, run.kind, run.state
),
told as (select pg_notify('lastgood_runs', queue) from (select distinct queue from taken where state = 'queued') as queues)
select taken.id as "id!", taken.queue as "queue!", taken.kind as "kind!", taken.state as "state!"
from taken left join told on true
