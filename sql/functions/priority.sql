-- How urgent a run is: the higher, the sooner. Upkeep is below 0, and drills are below -1000: both have slots of their own.
create or replace function lastgood.priority(kind text, trigger text) returns smallint
language sql immutable parallel safe as $$
select case
    when kind = 'restore' then 100
    when kind = 'backup' and trigger = 'scheduled' then 0
    when kind in ('backup', 'drop_replaced') then 50
    -- Somebody asked for it.
    when kind = 'verify' and trigger = 'adhoc' then -5
    when kind = 'copy' then -10
    when kind = 'verify' then -20
    when kind = 'expire' then -30
    when kind = 'drill' and trigger = 'adhoc' then -1005
    when kind = 'drill' then -1020
end
$$;
