-- Marks a resource whose past is not what was thought: a point of it turned out to be damaged, was proven or confirmed after all, or came
-- late to the catalog, as one does whose row was lost.
create or replace function lastgood.points_are_judged_anew() returns trigger language plpgsql as $$
begin
    insert into lastgood.promise_recounts as known (resource_id, day, marked_at)
    values (
        new.resource_id, greatest((new.created_at at time zone 'UTC')::date, (now() at time zone 'UTC')::date - 7), clock_timestamp()
    )
    on conflict (resource_id) do update set day = least(known.day, excluded.day), marked_at = excluded.marked_at;
    return null;
end $$;

create or replace trigger points_judged_anew after update of quarantined_at, suspected_at, confirmed_at, expired_at on lastgood.restore_points
    for each row when (
        (old.quarantined_at is null) <> (new.quarantined_at is null) or (old.suspected_at is null) <> (new.suspected_at is null)
        or old.confirmed_at is distinct from new.confirmed_at or (old.expired_at is not null and new.expired_at is null)
    ) execute function lastgood.points_are_judged_anew();

create or replace trigger points_came_late after insert on lastgood.restore_points
    for each row when (new.created_at < now() - interval '1 hour') execute function lastgood.points_are_judged_anew();
