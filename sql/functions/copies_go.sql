-- A store that turns out to lack a copy gets it again.
create or replace function lastgood.copies_go() returns trigger language plpgsql as $$
begin
    insert into lastgood.missing_copies (store, point_id, consistent_at)
    select gone.store, p.id, p.consistent_at
    from gone
    join lastgood.restore_points as p on p.id = gone.point_id
    join lastgood.stores as s on s.name = gone.store
    on conflict do nothing;
    return null;
end $$;

create or replace trigger copies_go after delete on lastgood.copies
    referencing old table as gone for each statement execute function lastgood.copies_go();
