-- `doctor` names the resources with a superuser's URL. The points of a fleet that has none cost nothing.
create index restore_points_of_superusers on lastgood.restore_points (resource_id, consistent_at desc)
    where manifest #>> '{details,superuser}' = 'true';
