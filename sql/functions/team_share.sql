-- What a run counts against. Restores are limited apart, so that a restore never waits for its own team's backups; so are upkeep and
-- drills, so that no backup waits for them.
create or replace function lastgood.team_share(kind text, team text) returns text
language sql immutable parallel safe as $$
select case
    when kind = 'restore' then 'restores of '
    when kind in ('copy', 'verify', 'expire') then 'upkeep of '
    when kind = 'drill' then 'drills of '
    else 'runs of '
end || team
$$;
