-- The claims of all lanes of one consumer, in one statement: a list for each argument that differs. The attempts' ids are for all of them,
-- in order.
create or replace function lastgood.claim_all(
    queues text[], at_most bigint[], lowest_priorities smallint[], highest_priorities smallint[], for_worker text,
    with_lease interval, slots_per_team integer, slots_per_server integer, attempts uuid[]
) returns setof lastgood.runs
language plpgsql as $$
declare
    lane record;
    used bigint := 0;
begin
    for lane in
        select * from unnest(queues, at_most, lowest_priorities, highest_priorities) as lanes (queue, slots, lowest, highest)
    loop
        return query select * from lastgood.claim(
            lane.queue, lane.slots, for_worker, with_lease, slots_per_team, slots_per_server, lane.lowest, lane.highest,
            attempts[used + 1 : used + lane.slots]
        );
        used := used + lane.slots;
    end loop;
end $$;
