-- Keeps `resources.proven_at`. The statement that changes what a point is good for has locked its resource before.
create or replace function lastgood.points_are_proven() returns trigger language plpgsql as $$
begin
    update lastgood.resources as r
    set proven_at = proven.at
    from (
        select touched.resource_id, (
                select max(point.verified_at) from lastgood.trusted_points as point
                where point.resource_id = touched.resource_id and point.verified_at is not null
            ) as at
        from (select distinct resource_id from changed where verified_at is not null) as touched
    ) as proven
    where r.id = proven.resource_id and r.proven_at is distinct from proven.at;
    return null;
end $$;

create or replace trigger points_are_proven after update on lastgood.restore_points
    referencing new table as changed for each statement execute function lastgood.points_are_proven();
