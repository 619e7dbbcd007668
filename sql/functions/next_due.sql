-- When a backup is next due, seen from `at`. `slot_taken`: the slot of `at` has a queued, running or succeeded backup.
create or replace function lastgood.next_due(
    cadence_minutes integer, spread integer, team_spread integer, at timestamptz, slot_taken boolean
) returns timestamptz
language sql stable parallel safe as $$
select case
    when slot_taken then lastgood.slot_start(cadence_minutes, spread, team_spread, at)
        + lastgood.slot_offset(cadence_minutes, spread, team_spread) + make_interval(mins => cadence_minutes)
    else at
end
$$;
