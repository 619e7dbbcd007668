-- A scheduled backup that failed for good makes its resource due again after a back-off, whichever statement fails the run. That statement
-- has locked the resource before the run, as a tick does.
create or replace function lastgood.backups_fail() returns trigger language plpgsql as $$
begin
    -- Most statements fail nothing.
    if exists (select from runs_after where state = 'failed') then
        update lastgood.resources as r
        set failures_in_a_row = least(r.failures_in_a_row, 1000000) + 1,
            next_due_at = case when r.status = 'active' and r.cadence_minutes is not null
                then now() + lastgood.retry_delay(least(r.failures_in_a_row, 1000000) + 1, r.cadence_minutes) else r.next_due_at end
        from (
            select distinct is_now.resource_id
            from runs_before as was join runs_after as is_now on is_now.id = was.id
            where was.state <> 'failed' and is_now.state = 'failed' and is_now.kind = 'backup' and is_now.trigger = 'scheduled'
        ) as failed
        where r.id = failed.resource_id;
    end if;
    return null;
end $$;

create or replace trigger runs_backups_fail after update on lastgood.runs referencing old table as runs_before new table as runs_after
    for each statement execute function lastgood.backups_fail();
