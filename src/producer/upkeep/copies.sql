-- The copies that are due: into each of the stores $1 for each usable point that it lacks, suspect ones too (somebody may confirm them),
-- the newest points first, until $2 wait. One that failed or was cancelled is asked for again after a quarter of an hour: its run has tried
-- for as long already.
with room as (
    select greatest(0, $2::bigint - count(*)) as copies
    from lastgood.runs where kind = 'copy' and state in ('queued', 'running')
),
due as (
    select missing.point_id, wanted.store, missing.consistent_at
    from unnest($1::text[]) as wanted (store)
    cross join lateral (
        select m.point_id, m.consistent_at
        from lastgood.missing_copies as m join lastgood.usable_points as p on p.id = m.point_id
        where m.store = wanted.store
            and not exists (
                select from lastgood.runs as asked
                where asked.args ->> 'point' = m.point_id::text and asked.kind = 'copy'
                    and coalesce(asked.args ->> 'store', '') = wanted.store and asked.state in ('queued', 'running')
            )
            and not exists (
                select from lastgood.runs as failed
                where failed.args ->> 'point' = m.point_id::text and failed.kind = 'copy'
                    and failed.args ->> 'store' = wanted.store
                    and failed.state in ('failed', 'cancelled') and failed.finished_at > now() - interval '15 minutes'
            )
        order by m.consistent_at desc
        limit (select copies from room)
    ) as missing
    order by missing.consistent_at desc
    limit (select copies from room)
)
select
    r.engine as "queue!", r.id as "resource_id!", jsonb_build_object('kind', 'copy', 'point', p.id, 'store', due.store) as "args!"
from due
join lastgood.restore_points as p on p.id = due.point_id
join lastgood.resources as r on r.id = p.resource_id
order by due.consistent_at desc
