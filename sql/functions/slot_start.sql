-- The slot that a resource is in at `at`. It lasts from the resource's turn to its next turn, and is named by the clock window in UTC that
-- the turn is in. Stable, because arithmetic on times with zones is: declared immutable it would not be inlined, and a tick of many
-- resources would take twice as long.
create or replace function lastgood.slot_start(cadence_minutes integer, spread integer, team_spread integer, at timestamptz)
returns timestamptz
language sql stable parallel safe as $$
select date_bin(
    make_interval(mins => cadence_minutes),
    at - lastgood.slot_offset(cadence_minutes, spread, team_spread),
    timestamptz '2000-01-01 00:00:00+00'
)
$$;
