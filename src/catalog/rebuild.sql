-- Records a batch of manifests ($1 to $11: a list for each column). Points that are on record stay as they are. Resources that
-- are not on record are made, paused and without a connection, as their newest manifest describes them; one made so by an
-- earlier batch follows a newer manifest; every other stays as it is but for its newest restorable instant.
with found as materialized (
    select * from unnest(
        $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[], $8::jsonb[],
        $9::bigint[], $10::bigint[], $11::timestamptz[]
    ) as manifests (
        id, resource_id, team, tier, engine, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes, finished_at
    )
),
newest as (
    select distinct on (resource_id) * from found order by resource_id, consistent_at desc
),
resource as (
    insert into lastgood.resources as r (id, team, tier, engine, status, newest_consistent_at)
    select resource_id, team, tier, engine, 'paused', consistent_at from newest order by resource_id
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
        (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes, created_at)
    select id, resource_id, least(consistent_at, now()), manifest_key, manifest, dump_bytes, stored_bytes, least(finished_at, now())
    from found
    -- After the resources that they are of.
    where (select count(*) from resource) >= 0
    on conflict do nothing
    returning id
)
select (select count(*) from point) as "points!", (select count(*) from resource where is_new) as "resources!"
