-- Whether a manifest gives a reason not to count on its point.
create or replace function lastgood.says_suspect(manifest jsonb) returns boolean
language sql immutable parallel safe as $$
select jsonb_path_exists(manifest, '$.suspicions[*]')
$$;
