-- Looks at the next $2 points for those that the store $1, which is new, lacks. Returns whether all were looked at.
with next as materialized (
    select id, consistent_at from lastgood.restore_points
    where id > (select coalesce(filled_to, '00000000-0000-0000-0000-000000000000') from lastgood.stores where name = $1)
    order by id limit $2
    -- One that is being removed is waited for: what is gone lacks nothing.
    for key share
),
missing as (
    insert into lastgood.missing_copies (store, point_id, consistent_at)
    select $1, next.id, next.consistent_at from next
    where not exists (select from lastgood.copies as c where c.point_id = next.id and c.store = $1)
    on conflict do nothing
)
update lastgood.stores
set filled_to = coalesce((select id from next order by id desc limit 1), filled_to),
    is_filled = (select count(*) from next) < $2
where name = $1
returning is_filled
