-- Until when a restore point could be counted on; null: it still can. One that is damaged counts until it was last proven whole: nobody
-- knows when the damage came. One whose key was shredded counts until then. A suspect one never counts, which is its callers' business.
create or replace function lastgood.counted_until(point lastgood.restore_points) returns timestamptz
language sql stable parallel safe as $$
select least(
    point.expired_at,
    case
        when point.quarantined_at is null then null
        when lastgood.is_shredded(point.manifest) then point.quarantined_at
        else least(point.quarantined_at, coalesce(point.verified_at, point.created_at))
    end
)
$$;
