-- What was encrypted to the keys $2 of team $1 can never be read again: it is no restore point to count on any more.
with of_team as (
    select p.id, p.resource_id, exists (select from lastgood.usable_points as usable where usable.id = p.id) as is_usable,
        p.suspected_at is null as is_trusted,
        p.manifest #>> '{archive,encryption,key}' = any($2::text[]) is true as is_lost
    from lastgood.restore_points as p
    join lastgood.resources as r on r.id = p.resource_id
    where r.team = $1
),
lost as (
    update lastgood.restore_points as p
    set quarantined_at = coalesce(p.quarantined_at, now()),
        quarantined_because = coalesce(p.quarantined_because, 'its key was shredded')
    from of_team
    where of_team.is_lost and p.id = of_team.id
),
-- What a failure now would lose has grown with it.
exposed as (
    update lastgood.resources as r
    set newest_consistent_at = (
        select max(p.consistent_at) from lastgood.restore_points as p join of_team on of_team.id = p.id
        where p.resource_id = r.id and of_team.is_usable and of_team.is_trusted and not of_team.is_lost
    )
    where r.id in (select resource_id from of_team where is_lost)
)
select count(*) filter (where is_lost) as "lost!", count(*) filter (where is_usable and not is_lost) as "left!"
from of_team
