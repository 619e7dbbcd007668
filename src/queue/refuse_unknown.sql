-- Fails what waits for an engine that this build does not know ($1: those it knows) and no live consumer serves: it would
-- wait for ever. $2: of these runs alone; null: of all. Queues are found by stepping through the index; resources are locked before runs, as a tick does.
with recursive steps as (
    (select queue from lastgood.runs where state = 'queued' order by queue limit 1)
    union all
    select (select r.queue from lastgood.runs as r where r.state = 'queued' and r.queue > steps.queue order by r.queue limit 1)
    from steps where steps.queue is not null
),
unknown as materialized (
    select queue from steps
    where queue <> all ($1::text[]) and not exists (
        select from lastgood.consumers as consumer
        where steps.queue = any (consumer.queues) and consumer.state <> 'stopped'
            and consumer.seen_at > now() - interval '30 seconds'
    )
),
waiting as materialized (
    select run.id, run.resource_id
    from lastgood.runs as run join unknown on unknown.queue = run.queue
    where run.state = 'queued' and ($2::uuid[] is null or run.id = any ($2))
    limit 1000
),
owner as materialized (
    select id from lastgood.resources
    where id in (select resource_id from waiting)
    order by id
    for no key update skip locked
),
refused as (
    update lastgood.runs as run
    set state = 'failed', finished_at = clock_timestamp(), error_kind = 'config',
        error = format('engine %s is not supported: use one of %s', to_json(run.queue), array_to_string($1::text[], ', '))
    from waiting join owner on owner.id = waiting.resource_id
    where run.id = waiting.id and run.state = 'queued'
    returning run.id, run.queue, run.kind, run.state
)
select id as "id!", queue as "queue!", kind as "kind!", state as "state!" from refused
