-- Records that a producer ticks now, and, where none had ticked for longer than $1, when there was none.
with before as materialized (
    select at from lastgood.last_tick for update
),
gap as (
    insert into lastgood.downtimes (began_at, ended_at)
    select at, now() from before where at < now() - $1::interval
    on conflict do nothing
)
insert into lastgood.last_tick as known (at)
-- After the lock.
select now() where (select count(*) from before) >= 0
on conflict (is_only) do update set at = excluded.at
