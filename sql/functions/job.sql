-- A run's payload, as `Job` in jobs/src/job.rs decodes it: for the jobs that SQL asks for.
create or replace function lastgood.job(kind text, point uuid default null, store text default null) returns jsonb
language sql immutable parallel safe as $$
select jsonb_strip_nulls(jsonb_build_object('kind', kind, 'point', point, 'store', store))
$$;
