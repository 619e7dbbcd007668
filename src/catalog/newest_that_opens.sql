-- The newest trusted restore point of resource $1, not younger than $2, whose key is on record with its secret, or that needs none.
select consistent_at as "consistent_at!" from lastgood.trusted_points as point
where resource_id = $1 and consistent_at <= coalesce($2, 'infinity'::timestamptz)
    and (
        manifest #>> '{archive,encryption,key}' is null
        or exists (
            select from lastgood.archive_keys as key
            where key.id::text = point.manifest #>> '{archive,encryption,key}' and key.shredded_at is null
        )
    )
order by consistent_at desc
limit 1
