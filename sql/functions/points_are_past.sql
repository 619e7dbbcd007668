-- Keeps what a restore point that goes did for a day that is still open. Nothing, where a newer one counted all that time.
create or replace function lastgood.points_are_past() returns trigger language plpgsql as $$
declare
    open_since timestamptz := lastgood.first_open_day()::timestamp at time zone 'UTC';
    until timestamptz := coalesce(lastgood.counted_until(old), now());
begin
    if until <= open_since or exists (
        select from lastgood.trusted_points as newer
        where newer.resource_id = old.resource_id and newer.consistent_at >= old.consistent_at
            and greatest(newer.created_at, newer.confirmed_at) <= open_since
    ) then
        return null;
    end if;
    insert into lastgood.past_points (point_id, resource_id, consistent_at, counted_from, counted_until)
    values (old.id, old.resource_id, old.consistent_at, greatest(old.created_at, old.confirmed_at), until)
    on conflict do nothing;
    return null;
end $$;

create or replace trigger points_past after delete on lastgood.restore_points
    for each row when (old.suspected_at is null) execute function lastgood.points_are_past();
