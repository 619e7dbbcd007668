-- The first day whose figures may yet change: one that is not counted for good, or that a finding may rewrite.
create or replace function lastgood.first_open_day() returns date language sql stable as $$
select least((now() at time zone 'UTC')::date - 7, (select max(day) + 1 from lastgood.promise_passes where is_final))
$$;
