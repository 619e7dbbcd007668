-- Rows from the future: a clock that was ahead when they were written. They are not believed, and the producer mends them.

-- Since when a resource is exposed. An instant of more than five minutes ahead says nothing: then its registration does, and where that
-- is ahead as well, nobody knows since when, and no promise is kept. As src/schedule/exposure.rs has it; a test holds the two together.
create function lastgood.exposed_since(newest_consistent_at timestamptz, created_at timestamptz) returns timestamptz
language sql stable parallel safe
return case
    when coalesce(newest_consistent_at, created_at) <= now() + interval '5 minutes' then coalesce(newest_consistent_at, created_at)
    when created_at <= now() + interval '5 minutes' then created_at
    else timestamptz '2000-01-01 00:00:00+00'
end;
