-- The claims of all lanes of one consumer, in one statement: a list for each argument that differs. The attempts' ids are for all of them,
-- in order.
--
-- A claim of backups alone commits asynchronously: two attempts at one backup do no harm. If the catalog's server crashes or fails over
-- within a second or so, the run is claimed again, and two workers execute it until the first notices.
create or replace function lastgood.claim_all(
    queues text[], at_most bigint[], lowest_priorities smallint[], highest_priorities smallint[], for_worker text,
    with_lease interval, slots_per_team integer, slots_per_server integer, attempts uuid[]
) returns setof lastgood.runs
language plpgsql as $$
declare
    lane record;
    claimed lastgood.runs;
    used bigint := 0;
    must_last boolean := false;
begin
    for lane in
        select * from unnest(queues, at_most, lowest_priorities, highest_priorities) as lanes (queue, slots, lowest, highest)
    loop
        for claimed in select * from lastgood.claim(
            lane.queue, lane.slots, for_worker, with_lease, slots_per_team, slots_per_server, lane.lowest, lane.highest,
            attempts[used + 1 : used + lane.slots]
        ) loop
            must_last := must_last or claimed.kind <> 'backup';
            return next claimed;
        end loop;
        used := used + lane.slots;
    end loop;
    if not must_last then
        perform set_config('synchronous_commit', 'off', true);
    end if;
end $$;
