-- When a resource changes, or has been backed up again, what held its runs back may not hold them any more.
create or replace function lastgood.resources_are_let_go() returns trigger language plpgsql as $$
begin
    update lastgood.runs set held_by = '' where resource_id = new.id and state = 'queued' and held_by <> '';
    return null;
end $$;

create or replace trigger resources_let_go after update of team, tier, engine, server, failures_in_a_row on lastgood.resources
    for each row when (
        (old.team, old.tier, old.engine) <> (new.team, new.tier, new.engine) or old.server is distinct from new.server
        or (old.failures_in_a_row > 0 and new.failures_in_a_row = 0)
    )
    execute function lastgood.resources_are_let_go();
