-- Restore points that exist and that nobody should count on: a state, with its reasons, until somebody confirms the point.

alter table lastgood.restore_points
    -- Made from what was probably not the customer's data. Restored from by name only, ends no exposure, and is never why an older
    -- point goes.
    add column suspected_at timestamptz,
    -- The reasons, in the manifest's words. They stay when the point is confirmed.
    add column suspected_of text[],
    add column suspected_because text,
    -- Somebody looked, and says that it is right.
    add column confirmed_at timestamptz,
    add column confirmed_because text,
    add constraint restore_points_suspicion_has_a_reason check (
        suspected_at is null or (coalesce(cardinality(suspected_of), 0) > 0 and suspected_because is not null)
    ),
    add constraint restore_points_confirmation_has_a_reason check ((confirmed_at is null) = (confirmed_because is null)),
    add constraint restore_points_confirmed_are_not_suspect check (suspected_at is null or confirmed_at is null);

-- Whether a manifest says why nobody should count on its point.
create function lastgood.says_suspect(manifest jsonb) returns boolean
language sql immutable parallel safe
return jsonb_path_exists(manifest, '$.suspicions[*]');

-- Whoever records a point records what its manifest says against it.
create function lastgood.restore_points_are_suspected() returns trigger language plpgsql as $$
declare
    reasons text[];
    told text;
begin
    select array_agg(distinct coalesce(said ->> 'reason', 'unknown')), string_agg(coalesce(said ->> 'because', 'no reason given'), '; ')
    into reasons, told
    from jsonb_path_query(new.manifest, '$.suspicions[*]') as said;
    new.suspected_at := coalesce(new.suspected_at, now());
    new.suspected_of := coalesce(new.suspected_of, '{}') || reasons;
    new.suspected_because := left(concat_ws('; ', new.suspected_because, told), 2000);
    return new;
end $$;

create trigger restore_points_suspected before insert on lastgood.restore_points
    for each row when (lastgood.says_suspect(new.manifest)) execute function lastgood.restore_points_are_suspected();

-- Whoever chooses among points chooses from one of these two, and so says what becomes of suspect ones.
-- What can be read: copied, read back, kept.
create view lastgood.usable_points as
select * from lastgood.restore_points where quarantined_at is null and expired_at is null;
-- What may be counted on: restored from unasked, the end of an exposure, the reason that an older one goes.
create view lastgood.trusted_points as
select * from lastgood.restore_points where quarantined_at is null and expired_at is null and suspected_at is null;

create index restore_points_trusted on lastgood.restore_points (resource_id, consistent_at desc)
    where quarantined_at is null and expired_at is null and suspected_at is null;
create index restore_points_suspect on lastgood.restore_points (resource_id, consistent_at desc)
    where suspected_at is not null and quarantined_at is null and expired_at is null;
-- Those that are of no one instant.
create index restore_points_of_no_instant on lastgood.restore_points (resource_id, consistent_at desc)
    where (manifest ->> 'consistency') = 'none' and quarantined_at is null and expired_at is null and suspected_at is null;
-- The newest usable of a resource is found in restore_points_newest.
drop index lastgood.restore_points_usable;
