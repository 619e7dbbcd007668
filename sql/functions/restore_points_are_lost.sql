-- Quarantines a point whose key was shredded while it was made, whoever records it: it can never be read. The key is locked, for a
-- shredding that is not committed yet is not seen otherwise. A statement that inserts several points inserts them in the order of their
-- keys, so that two cannot wait for each other.
create or replace function lastgood.restore_points_are_lost() returns trigger language plpgsql as $$
begin
    perform from lastgood.archive_keys as k where k.id = lastgood.key_of(new.manifest) for share of k;
    if lastgood.is_shredded(new.manifest) then
        new.quarantined_at := now();
        new.quarantined_because := 'its key was shredded';
    end if;
    return new;
end $$;

create or replace trigger restore_points_lost before insert on lastgood.restore_points
    for each row when (new.manifest #>> '{archive,encryption,key}' is not null) execute function lastgood.restore_points_are_lost();
