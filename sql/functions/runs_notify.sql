-- Wakes idle consumers. A hint: the poll is the guarantee. Nothing is sent for a run that waits for its time.
create or replace function lastgood.runs_notify() returns trigger language plpgsql as $$
begin
    perform pg_notify('lastgood_runs', fresh_queues.queue)
    from (select distinct queue from fresh where state = 'queued' and run_at <= now()) as fresh_queues;
    return null;
end $$;

create or replace trigger runs_notify after insert on lastgood.runs
    referencing new table as fresh for each statement execute function lastgood.runs_notify();
