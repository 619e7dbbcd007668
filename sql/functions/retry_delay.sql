-- How long a slot that failed waits before it is tried again.
create or replace function lastgood.retry_delay(failures integer, cadence_minutes integer) returns interval
language sql immutable parallel safe as $$
select least(
    make_interval(mins => (2 ^ least(greatest(failures, 1) - 1, 10))::integer),
    make_interval(mins => cadence_minutes),
    interval '1 hour'
)
$$;
