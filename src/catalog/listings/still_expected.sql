-- Those of the points $2 that should still be in store $1.
select point.id as "id!", point.manifest_key as "manifest_key!", point.manifest #>> '{archive,key}' as archive_key
from lastgood.copies as copy join lastgood.restore_points as point on point.id = copy.point_id
where copy.store = $1 and copy.point_id = any($2::uuid[]) and point.expired_at is null
