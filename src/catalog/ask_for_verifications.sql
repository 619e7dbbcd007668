-- Enqueues verifications that somebody waits for. $1: one point, whatever its state. $2: points of one resource, those
-- too that were found damaged and may be whole again, but none whose key was shredded. $3: a random part of the usable ones of those
-- selected, and one at least. What waits already is returned too, and raised to the same priority, which
-- is below a scheduled backup's: reading back what there is must not keep new restore points waiting. $4: at most so many, those
-- first whose proof is the oldest where all are meant.
with selected as (
    select point.id, point.resource_id, r.engine, count(*) over () as of,
        row_number() over (
            order by case when $3::float8 is null then point.verified_at end nulls first, random()
        ) as turn
    from lastgood.restore_points as point join lastgood.resources as r on r.id = point.resource_id
    where ($2::text is null or point.resource_id = $2)
        and case when $1::uuid is not null then point.id = $1
            else point.expired_at is null and case
                when point.quarantined_at is null then true
                when $3::float8 is not null then false
                else not exists (
                    select from lastgood.archive_keys as key
                    where key.id::text = point.manifest #>> '{archive,encryption,key}' and key.shredded_at is not null
                )
            end end
)
insert into lastgood.runs (queue, kind, trigger, resource_id, priority, args)
select engine, 'verify', 'adhoc', resource_id, lastgood.priority('verify', 'adhoc'), lastgood.job('verify', id)
from selected
where turn <= least($4::bigint, greatest(1, ceil(of * coalesce($3::float8, 1))))
on conflict ((args ->> 'point'), kind, (coalesce(args ->> 'store', '')))
    where kind in ('copy', 'verify', 'expire') and state in ('queued', 'running')
    do update set priority = greatest(runs.priority, excluded.priority)
returning id as "run!", (args ->> 'point')::uuid as "point!", resource_id as "resource!"
