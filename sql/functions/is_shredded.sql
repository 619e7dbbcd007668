-- Whether what a manifest describes can never be read again, because its key was shredded.
create or replace function lastgood.is_shredded(manifest jsonb) returns boolean language sql stable as $$
select exists (select from lastgood.archive_keys as k where k.id = lastgood.key_of(manifest) and k.shredded_at is not null)
$$;
