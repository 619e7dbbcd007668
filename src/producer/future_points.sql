-- Mends restore points from the future: recorded, consistent or proven by a clock that was ahead by more than $1. $2: of these resources
-- alone; null: of all.
with recorded as (
    update lastgood.restore_points
    set consistent_at = least(consistent_at, now()), created_at = least(created_at, now()),
        verified_at = case when verified_at > now() then now() else verified_at end,
        -- Nobody knows of when it is, unless somebody has looked.
        suspected_at = case when consistent_at > now() + $1 and confirmed_at is null then coalesce(suspected_at, now()) else suspected_at end,
        suspected_of = case
            when consistent_at > now() + $1 and confirmed_at is null then coalesce(suspected_of, '{}') || 'from_the_future'::text
            else suspected_of
        end,
        suspected_because = case
            when consistent_at > now() + $1 and confirmed_at is null then concat_ws('; ', suspected_because,
                'it was recorded as of ' || to_char(consistent_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"') || ', which is yet to come')
            else suspected_because
        end
    where (consistent_at > now() + $1::interval or (created_at > now() + $1 and quarantined_at is null and expired_at is null))
        and ($2::text[] is null or resource_id = any ($2))
    returning resource_id
),
held as (
    update lastgood.copies
    set stored_at = least(stored_at, now()), verified_at = case when verified_at > now() then now() else verified_at end
    where coalesce(verified_at, stored_at) > now() + $1 and (
        $2 is null or point_id in (select id from lastgood.restore_points where resource_id = any ($2))
    )
    returning point_id
)
select distinct resource_id as "resource_id!" from (
    select resource_id from recorded
    union all
    select point.resource_id from held join lastgood.restore_points as point on point.id = held.point_id
) as mended
