-- Quarantines the usable points that are on record in store $1 alone, and tells how many. What a failure now would lose has
-- grown with them. Their resources are locked.
with lost as (
    update lastgood.restore_points as point
    set quarantined_at = now(), quarantined_because = 'the only store that held it, ' || $1::text || ', was lost'
    from lastgood.copies as copy
    where copy.point_id = point.id and copy.store = $1 and exists (
            select from lastgood.usable_points as usable where usable.id = point.id
        )
        and not exists (
            select from lastgood.copies as other where other.point_id = point.id and other.store <> $1
        )
    returning point.id, point.resource_id
),
exposed as (
    update lastgood.resources as r
    set newest_consistent_at = (
        select max(left_over.consistent_at) from lastgood.trusted_points as left_over
        where left_over.resource_id = r.id and left_over.id not in (select id from lost)
    )
    where r.id in (select resource_id from lost)
)
select count(*) as "lost!" from lost
