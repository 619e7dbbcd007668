-- How many usable points each of the stores $1 lacks, and how many of these failed to be copied since they were last tried.
select wanted.store as "store!", count(p.id) as "points!",
    count(p.id) filter (where exists (
        select from lastgood.runs as failed
        where failed.args ->> 'point' = p.id::text and failed.kind = 'copy' and failed.state = 'failed'
            and failed.args ->> 'store' = wanted.store
    )) as "failed!"
from unnest($1::text[]) as wanted (store)
left join lastgood.restore_points as p
    on p.quarantined_at is null and p.expired_at is null
    and not exists (select from lastgood.copies as c where c.point_id = p.id and c.store = wanted.store)
group by wanted.store
order by wanted.store
