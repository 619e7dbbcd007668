-- Since when a resource is exposed. An instant more than five minutes ahead says nothing: then its registration counts; where that is
-- ahead as well, nobody knows, and no promise is kept. The same as src/schedule/exposure.rs; a test holds the two together.
create or replace function lastgood.exposed_since(newest_consistent_at timestamptz, created_at timestamptz) returns timestamptz
language sql stable parallel safe as $$
select case
    when coalesce(newest_consistent_at, created_at) <= now() + interval '5 minutes' then coalesce(newest_consistent_at, created_at)
    when created_at <= now() + interval '5 minutes' then created_at
    else timestamptz '2000-01-01 00:00:00+00'
end
$$;
