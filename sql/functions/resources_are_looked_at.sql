-- Retention looks at every new resource.
create or replace function lastgood.resources_are_looked_at() returns trigger language plpgsql as $$
begin
    insert into lastgood.retention (resource_id) select id from fresh on conflict do nothing;
    return null;
end $$;

create or replace trigger resources_are_looked_at after insert on lastgood.resources
    referencing new table as fresh for each statement execute function lastgood.resources_are_looked_at();
