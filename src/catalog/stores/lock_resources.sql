-- Locks the resources whose newest point may be lost with store $1.
select r.id from lastgood.resources as r
where exists (
    select from lastgood.usable_points as point join lastgood.copies as copy on copy.point_id = point.id
    where point.resource_id = r.id and copy.store = $1
        and not exists (
            select from lastgood.copies as other where other.point_id = point.id and other.store <> $1
        )
)
order by r.id
for no key update
