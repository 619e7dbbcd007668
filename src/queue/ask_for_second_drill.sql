-- Another drill of restore point $1, whose last one found it wanting: whichever consumer did that one hands it on.
insert into lastgood.runs (queue, kind, trigger, resource_id, priority, args)
select r.engine, 'drill', 'upkeep', r.id, lastgood.priority('drill', 'adhoc'), lastgood.job('drill', $1)
from lastgood.usable_points as point join lastgood.resources as r on r.id = point.resource_id
where point.id = $1
on conflict do nothing
