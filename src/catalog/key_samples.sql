-- The newest restore point of one resource of the platform's key, and of one of each of $1 teams that have their own.
with owners as (
    (
        select team from lastgood.archive_keys
        where retired_at is null and team is not null order by random() limit $1
    )
    union all
    select null from lastgood.archive_keys where retired_at is null and team is null
)
select owners.team as "team?", newest.resource_id as "resource_id!", newest.manifest_key as "manifest_key!"
from owners
cross join lateral (
    select r.id
    from lastgood.resources as r
    where r.newest_consistent_at is not null
        and case when owners.team is null
            then not exists (select from lastgood.archive_keys as k where k.team = r.team)
            else r.team = owners.team
        end
    order by r.newest_consistent_at desc
    limit 1
) as resource
cross join lateral (
    select p.resource_id, p.manifest_key
    from lastgood.usable_points as p
    where p.resource_id = resource.id
    order by p.consistent_at desc
    limit 1
) as newest
