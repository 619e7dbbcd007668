-- How many usable points each of the stores $1 lacks, and how many of these failed to be copied within a day.
with unusable as (
    select id from lastgood.restore_points where quarantined_at is not null
    union
    select id from lastgood.restore_points where expired_at is not null
),
failed as (
    select distinct args ->> 'store' as store, (args ->> 'point')::uuid as point_id from lastgood.runs
    where kind in ('copy', 'verify', 'expire') and state = 'failed' and kind = 'copy'
        and finished_at > now() - interval '1 day'
)
select wanted.store as "store!", count(missing.point_id) as "points!", count(failed.point_id) as "failed!"
from unnest($1::text[]) as wanted (store)
left join lastgood.missing_copies as missing
    on missing.store = wanted.store and missing.point_id not in (select id from unusable)
left join failed on failed.store = missing.store and failed.point_id = missing.point_id
group by wanted.store
order by wanted.store
