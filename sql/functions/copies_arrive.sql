-- A store that has got a point no longer lacks it.
create or replace function lastgood.copies_arrive() returns trigger language plpgsql as $$
begin
    delete from lastgood.missing_copies as m using fresh where m.store = fresh.store and m.point_id = fresh.point_id;
    return null;
end $$;

create or replace trigger copies_arrive after insert on lastgood.copies
    referencing new table as fresh for each statement execute function lastgood.copies_arrive();
