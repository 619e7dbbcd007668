-- What an operator cancelled is not asked for again at once, as little as what failed.
drop index lastgood.runs_failed_upkeep;
create index runs_failed_upkeep on lastgood.runs (finished_at)
    where kind in ('copy', 'verify', 'expire') and state in ('failed', 'cancelled');

-- What an operator looks for first.
create index runs_failed on lastgood.runs (created_at desc) where state = 'failed';
