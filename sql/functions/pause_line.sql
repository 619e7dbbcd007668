-- The line (`runs.held_by`) of a pause.
create or replace function lastgood.pause_line(engine text, tier text, team text) returns text
language sql immutable parallel safe as $$
select 'pause ' || coalesce(engine, '') || '/' || coalesce(tier, '') || '/' || coalesce(team, '')
$$;
