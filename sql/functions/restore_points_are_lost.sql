-- A point whose key was shredded while it was made can never be read: nobody counts on it, whoever records it. The key is locked, for a
-- shredding that is not committed yet is not seen otherwise. Whoever records several has them in the order of their keys.
create or replace function lastgood.restore_points_are_lost() returns trigger language plpgsql as $$
begin
    perform from lastgood.archive_keys as k where k.id::text = new.manifest #>> '{archive,encryption,key}' for share of k;
    if lastgood.is_shredded(new.manifest) then
        new.quarantined_at := now();
        new.quarantined_because := 'its key was shredded';
    end if;
    return new;
end $$;

create or replace trigger restore_points_lost before insert on lastgood.restore_points
    for each row when (new.manifest #>> '{archive,encryption,key}' is not null) execute function lastgood.restore_points_are_lost();
