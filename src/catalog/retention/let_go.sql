-- Lets points go ($1), for the reasons in $2, each of them only if it is still safe, whatever was decided a moment ago: not
-- kept by anybody, not being restored from, not of the future, and of a resource that lives neither the newest trusted nor the
-- newest proven one, nor one that a newer dump of less than half the size may be a poor replacement for: those are held until
-- somebody confirms the shrunk one, or it has gone by its age. Resources and points are locked already.
with decided as (
    select id, because from unnest($1::uuid[], $2::text[]) as given (id, because)
),
live as (
    select distinct r.id from lastgood.resources as r
    join lastgood.restore_points as point on point.resource_id = r.id
    where point.id = any($1::uuid[]) and r.status <> 'removed'
),
keeper as (
    select newest.id from live cross join lateral (
        (
            select id from lastgood.trusted_points
            where resource_id = live.id and consistent_at <= now() and created_at <= now()
            order by consistent_at desc, created_at desc, id desc limit 1
        )
        union all
        (
            select id from lastgood.trusted_points
            where resource_id = live.id and consistent_at <= now() and created_at <= now() and verified_at is not null
            order by consistent_at desc, created_at desc, id desc limit 1
        )
        union all
        (
            -- Where all that is there is suspect, the newest of that is the best there is.
            select id from lastgood.usable_points
            where resource_id = live.id and consistent_at <= now() and created_at <= now() and not exists (
                select from lastgood.trusted_points as trusted
                where trusted.resource_id = live.id and trusted.consistent_at <= now() and trusted.created_at <= now()
            )
            order by consistent_at desc, created_at desc, id desc limit 1
        )
    ) as newest
)
update lastgood.restore_points as point
set expired_at = now(), expired_because = decided.because
from decided
where point.id = decided.id and point.expired_at is null and point.pinned_at is null and point.held_at is null
    and point.consistent_at <= now() and point.created_at <= now()
    and point.id not in (select id from keeper)
    and not (
        point.suspected_at is null and point.quarantined_at is null and point.resource_id in (select id from live)
        and exists (
            select from lastgood.usable_points as shrunk
            where shrunk.resource_id = point.resource_id and shrunk.suspected_at is not null
                and 'shrunk' = any(shrunk.suspected_of) and shrunk.consistent_at <= now() and shrunk.created_at <= now()
                and (shrunk.consistent_at, shrunk.created_at, shrunk.id) > (point.consistent_at, point.created_at, point.id)
        )
    )
    and not exists (
        select from lastgood.runs as run
        where run.resource_id = point.resource_id and run.kind = 'restore' and run.state in ('queued', 'running')
            and run.args ->> 'point' = point.id::text
    )
