-- The next tick looks at a row that is new, or whose promise changed, whoever wrote it.
create or replace function lastgood.resources_touch() returns trigger language plpgsql as $$
begin
    new.updated_at := now();
    -- Without a cadence no run that ends meanwhile moves the next due time by a promise that holds no more.
    new.cadence_minutes := null;
    new.next_due_at := case when new.status = 'active' then now() end;
    return new;
end $$;

create or replace trigger resources_new before insert on lastgood.resources
    for each row when (new.next_due_at is null) execute function lastgood.resources_touch();

create or replace trigger resources_changed before update of team, tier, status, engine, retention_days on lastgood.resources
    for each row when (
        (old.team, old.tier, old.status, old.engine) is distinct from (new.team, new.tier, new.status, new.engine)
        or old.retention_days is distinct from new.retention_days
    ) execute function lastgood.resources_touch();
