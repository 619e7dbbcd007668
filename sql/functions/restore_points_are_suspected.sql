-- Records what a manifest says against its point, whoever records the point.
create or replace function lastgood.restore_points_are_suspected() returns trigger language plpgsql as $$
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

create or replace trigger restore_points_suspected before insert on lastgood.restore_points
    for each row when (jsonb_path_exists(new.manifest, '$.suspicions[*]')) execute function lastgood.restore_points_are_suspected();
