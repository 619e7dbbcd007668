-- Whether what a manifest describes can never be read again, because its key was shredded.
create or replace function lastgood.is_shredded(manifest jsonb) returns boolean language sql stable as $$
select exists (
    select from lastgood.archive_keys as k
    -- What is no id is no key's.
    where k.shredded_at is not null and k.id = case
        when manifest #>> '{archive,encryption,key}' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
            then (manifest #>> '{archive,encryption,key}')::uuid
    end
)
$$;
