-- A claim writes a new version of each run that it takes, and an entry for it into every index that has the run. The indexes by age leave
-- out running runs: they are few, and `runs_running` finds them.
drop index lastgood.runs_newest, lastgood.runs_of_engine, lastgood.runs_by_kind, lastgood.runs_adhoc_of;
create index runs_newest on lastgood.runs (created_at desc) where state <> 'running';
create index runs_of_engine on lastgood.runs (queue, created_at desc) where state <> 'running';
create index runs_by_kind on lastgood.runs (kind, created_at desc) where kind <> 'backup' and state <> 'running';
create index runs_adhoc_of on lastgood.runs (resource_id, created_at desc)
    where trigger = 'adhoc' and kind = 'backup' and state <> 'running';
