-- Records that a producer ticks now, and, where none had ticked for longer than $1, when there was none. Producers that tick more rarely
-- are waited for longer.
with before as materialized (
    select at from lastgood.last_tick for update
),
gap as (
    insert into lastgood.downtimes (began_at, ended_at)
    select at, now() from before
    where at < now() - $1::interval and at < now() - coalesce(
        (select 3 * make_interval(secs => max(tick_seconds)) from lastgood.producers where ticked_at > now() - interval '1 day'),
        interval '0'
    )
    on conflict do nothing
)
insert into lastgood.last_tick as known (at)
-- After the lock.
select now() where (select count(*) from before) >= 0
on conflict (is_only) do update set at = excluded.at
