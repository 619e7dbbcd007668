-- Notes which stores are to get a new point.
create or replace function lastgood.points_are_missed() returns trigger language plpgsql as $$
begin
    insert into lastgood.missing_copies (store, point_id, consistent_at)
    select s.name, fresh.id, fresh.consistent_at
    from fresh cross join lastgood.stores as s
    where not exists (select from lastgood.copies as c where c.point_id = fresh.id and c.store = s.name)
    on conflict do nothing;
    return null;
end $$;

create or replace trigger points_are_missed after insert on lastgood.restore_points
    referencing new table as fresh for each statement execute function lastgood.points_are_missed();
