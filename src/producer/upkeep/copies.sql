-- A copy into each of the stores $1 for each usable point that it lacks, the newest points first, until $2 wait. One that
-- failed is asked for again after a quarter of an hour: its run has tried for as long already.
with room as (
    select greatest(0, $2::bigint - count(*)) as copies
    from lastgood.runs where kind = 'copy' and state in ('queued', 'running')
)
insert into lastgood.runs (queue, kind, trigger, resource_id, priority, args)
select r.engine, 'copy', 'upkeep', r.id, -10,
    jsonb_build_object('kind', 'copy', 'point', p.id, 'store', wanted.store)
from unnest($1::text[]) as wanted (store)
cross join lastgood.restore_points as p
join lastgood.resources as r on r.id = p.resource_id
where p.quarantined_at is null and p.expired_at is null
    and not exists (select from lastgood.copies as c where c.point_id = p.id and c.store = wanted.store)
    and not exists (
        select from lastgood.runs as asked
        where asked.args ->> 'point' = p.id::text and asked.kind = 'copy' and coalesce(asked.args ->> 'store', '') = wanted.store
            and asked.state in ('queued', 'running')
    )
    and not exists (
        select from lastgood.runs as failed
        where failed.args ->> 'point' = p.id::text and failed.kind = 'copy' and failed.args ->> 'store' = wanted.store
            and failed.state = 'failed' and failed.finished_at > now() - interval '15 minutes'
    )
order by p.consistent_at desc
limit (select copies from room)
on conflict do nothing
