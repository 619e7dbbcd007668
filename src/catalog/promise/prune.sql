-- Removes at most $1 rows of each table that nothing needs any more: figures after 400 days, and facts that no open day needs.
with days as (
    delete from lastgood.promise_days
    where ctid = any (
        array(select ctid from lastgood.promise_days where day < (now() at time zone 'UTC')::date - 400 order by day limit $1)
    )
    returning 1
),
totals as (
    delete from lastgood.promise_totals
    where ctid = any (
        array(select ctid from lastgood.promise_totals where day < (now() at time zone 'UTC')::date - 400 order by day limit $1)
    )
    returning 1
),
passes as (
    delete from lastgood.promise_passes where day < (now() at time zone 'UTC')::date - 400 returning 1
),
slices as (
    delete from lastgood.promise_slices
    where ctid = any (
        array(select ctid from lastgood.promise_slices where until < now() - interval '2 days' order by until limit $1)
    )
    returning 1
),
points as (
    delete from lastgood.past_points
    where ctid = any (
        array(
            select ctid from lastgood.past_points
            where counted_until < lastgood.first_open_day()::timestamp at time zone 'UTC' order by counted_until limit $1
        )
    )
    returning 1
),
pauses as (
    delete from lastgood.past_pauses where ended_at < lastgood.first_open_day()::timestamp at time zone 'UTC' returning 1
),
downtimes as (
    delete from lastgood.downtimes where ended_at < lastgood.first_open_day()::timestamp at time zone 'UTC' returning 1
)
select (select count(*) from days) + (select count(*) from totals) + (select count(*) from passes) + (select count(*) from slices)
    + (select count(*) from points) + (select count(*) from pauses) + (select count(*) from downtimes) as "rows!"
