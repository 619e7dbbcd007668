-- Keeps point $1 for the pin's reason $2 or the hold's reason $3, unless its removal has begun.
update lastgood.restore_points
set pinned_at = case when $2::text is null then pinned_at else now() end,
    pinned_because = coalesce($2, pinned_because),
    held_at = case when $3::text is null then held_at else now() end,
    held_because = coalesce($3, held_because),
    expired_at = null, expired_because = null, refused_at = null, refused_because = null
where id = $1 and removal_began_at is null
returning resource_id
