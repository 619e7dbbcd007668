-- Keeps what a resource was and when, whoever changes it: the promise of a past day is judged by it.
create or replace function lastgood.resources_are_recorded() returns trigger language plpgsql as $$
begin
    insert into lastgood.resource_changes (resource_id, at, team, tier, engine, service)
    values (
        new.id, case tg_op when 'INSERT' then least(new.created_at, clock_timestamp()) else clock_timestamp() end,
        new.team, new.tier, new.engine,
        case
            when new.status = 'removed' then 'removed'
            when new.status = 'paused' or new.retention_days <= 0 then 'suspended'
            else 'active'
        end
    );
    return null;
end $$;

create or replace trigger resources_recorded_new after insert on lastgood.resources
    for each row execute function lastgood.resources_are_recorded();

create or replace trigger resources_recorded after update of team, tier, status, engine, retention_days on lastgood.resources
    for each row when (
        (old.team, old.tier, old.status, old.engine) is distinct from (new.team, new.tier, new.status, new.engine)
        or old.retention_days is distinct from new.retention_days
    ) execute function lastgood.resources_are_recorded();
