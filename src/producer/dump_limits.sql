-- Makes the limits of dumps those of the plans. $1, $2: the tiers that have one, and the most bytes.
with given as (
    select tier, bytes from unnest($1::text[], $2::bigint[]) as given (tier, bytes)
),
gone as (
    delete from lastgood.dump_limits where tier not in (select tier from given)
)
insert into lastgood.dump_limits (tier, maximum_dump_bytes)
select tier, bytes from given
on conflict (tier) do update set maximum_dump_bytes = excluded.maximum_dump_bytes
where dump_limits.maximum_dump_bytes <> excluded.maximum_dump_bytes
