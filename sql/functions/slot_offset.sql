-- How far into each clock window a resource has its turn. The same as src/schedule.rs; a test holds the two together.
create or replace function lastgood.slot_offset(cadence_minutes integer, spread integer, team_spread integer) returns interval
language sql immutable parallel safe as $$
select case
    when cadence_minutes <= 60 then make_interval(secs => spread % (cadence_minutes * 60))
    else make_interval(hours => team_spread % (cadence_minutes / 60), secs => spread % 3600)
end
$$;
