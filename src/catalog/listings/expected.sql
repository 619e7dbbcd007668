-- What should be in store $1, page by page: points recorded there before $2, after point $3, at most $4. One that retention has let
-- go is being removed.
select point.id as "id!", point.manifest_key as "manifest_key!", point.manifest #>> '{archive,key}' as archive_key
from lastgood.copies as copy join lastgood.restore_points as point on point.id = copy.point_id
where copy.store = $1 and copy.stored_at < $2 and point.expired_at is null
    and ($3::uuid is null or copy.point_id > $3)
order by copy.point_id limit $4
