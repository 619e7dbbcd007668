-- The id of the key that a manifest's archive is encrypted to. Null: to none. A value that is not a UUID names no key.
create or replace function lastgood.key_of(manifest jsonb) returns uuid language sql immutable parallel safe as $$
select case
    when manifest #>> '{archive,encryption,key}' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
        then (manifest #>> '{archive,encryption,key}')::uuid
end
$$;
