-- The restore points of the resources $1 that counted between $2 and $3, and those whose rows are gone. Points that are older than one
-- that counted all that time change nothing, and are not read.
select wanted.id as "resource_id!", greatest(counted.consistent_at, timestamptz '1900-01-01 00:00:00+00') as "consistent_at!",
    greatest(counted.counted_from, timestamptz '1900-01-01 00:00:00+00') as "from!",
    case when counted.counted_until < $3 then greatest(counted.counted_until, timestamptz '1900-01-01 00:00:00+00') end as until
from unnest($1::text[]) as wanted (id)
left join lateral (
    select whole.consistent_at from lastgood.trusted_points as whole
    where whole.resource_id = wanted.id and whole.consistent_at <= $2 and whole.created_at <= $2
        and (whole.confirmed_at is null or whole.confirmed_at <= $2)
    order by whole.consistent_at desc limit 1
) as floor on true
cross join lateral (
    select point.consistent_at, greatest(point.created_at, point.confirmed_at) as counted_from,
        lastgood.counted_until(point) as counted_until
    from lastgood.restore_points as point
    where point.resource_id = wanted.id and point.suspected_at is null and point.created_at < $3
        and point.consistent_at >= coalesce(floor.consistent_at, '-infinity') and point.consistent_at < $3
        and (point.expired_at is null or point.expired_at > $2)
    union all
    select past.consistent_at, past.counted_from, past.counted_until
    from lastgood.past_points as past
    where past.resource_id = wanted.id and past.consistent_at < $3 and past.counted_until > $2
) as counted
where counted.counted_from < $3
