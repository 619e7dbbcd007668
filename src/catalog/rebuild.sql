-- Records the manifests $2 of store $5, with their keys $1, their instants $3 and the ends of their runs $4. The times are passed separately,
-- because PostgreSQL cannot parse every year that a manifest may contain. Points that are on record stay as they are. Resources that are
-- not on record are made, paused and without a connection, as their newest manifest describes them; one made so by an earlier batch
-- follows a newer manifest; every other stays as it is but for its newest restorable instant. A point that is dated in the future is
-- suspect, and so is one that its manifest calls so: neither moves that instant.
with found as materialized (
    select (manifest ->> 'run_id')::uuid as id, manifest ->> 'resource_id' as resource_id, manifest ->> 'team' as team,
        manifest ->> 'tier' as tier, manifest ->> 'engine' as engine, consistent_at, finished_at, manifest_key, manifest,
        -- A size too large for bigint is recorded as the largest bigint.
        least((manifest #>> '{dump,size_bytes}')::numeric, 9223372036854775807)::bigint as dump_bytes,
        least((manifest #>> '{archive,size_bytes}')::numeric, 9223372036854775807)::bigint as stored_bytes,
        lastgood.is_shredded(manifest) as is_lost,
        -- More than clocks differ by: nobody knows of when it is.
        consistent_at > now() + interval '5 minutes' as is_ahead,
        consistent_at > now() + interval '5 minutes' or lastgood.says_suspect(manifest) as is_suspect
    from unnest($1::text[], $2::jsonb[], $3::timestamptz[], $4::timestamptz[])
        as manifests (manifest_key, manifest, consistent_at, finished_at)
),
newest as (
    -- The newest that can be counted on, if any can.
    select distinct on (resource_id) * from found order by resource_id, is_lost or is_suspect, is_ahead, consistent_at desc
),
resource as (
    insert into lastgood.resources as r (id, team, tier, engine, status, newest_consistent_at)
    select resource_id, team, tier, engine, 'paused', case when not is_lost and not is_suspect then least(consistent_at, now()) end
    from newest order by resource_id
    on conflict (id) do update
    set team = case when num_nonnulls(r.connection_ref, r.connection_sealed) = 0 then excluded.team else r.team end,
        tier = case when num_nonnulls(r.connection_ref, r.connection_sealed) = 0 then excluded.tier else r.tier end,
        engine = case when num_nonnulls(r.connection_ref, r.connection_sealed) = 0 then excluded.engine else r.engine end,
        newest_consistent_at = excluded.newest_consistent_at
    -- A point that is on record may be quarantined: only one that is new can move the newest instant.
    where excluded.newest_consistent_at > coalesce(r.newest_consistent_at, '-infinity')
        and not exists (
            select from newest join lastgood.restore_points as point on point.id = newest.id
            where newest.resource_id = excluded.id
        )
    returning xmax = 0 as is_new
),
point as (
    -- Recorded when it was made, as far as anybody knows: retention and verification go by it.
    insert into lastgood.restore_points
        (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes, created_at, suspected_at, suspected_of,
         suspected_because)
    select id, resource_id, least(consistent_at, now()), manifest_key, manifest, dump_bytes, stored_bytes, least(finished_at, now()),
        case when is_ahead then now() end, case when is_ahead then array['from_the_future'] end,
        case when is_ahead then 'its manifest is dated ' || to_char(consistent_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"')
            || ', which is yet to come' end
    from found
    -- After the resources that they are of.
    where (select count(*) from resource) >= 0
    order by manifest #>> '{archive,encryption,key}'
    on conflict do nothing
    returning id
),
copy as (
    -- Also of points that were on record, if this is what was recorded of them: another store's manifests may have brought them.
    insert into lastgood.copies (point_id, store)
    select found.id, $5 from found
    where found.id in (select id from point) or exists (
        select from lastgood.restore_points as known
        where known.id = found.id and known.manifest_key = found.manifest_key and known.manifest = found.manifest
            and known.expired_at is null
    )
    on conflict do nothing
)
select (select count(*) from point) as "points!", (select count(*) from resource where is_new) as "resources!"
