-- Which store has what, which lacks what, and what of each store was read back.

-- When this copy was last read to its last byte and found whole. A point that is in one store only was read there.
alter table lastgood.copies add column verified_at timestamptz;
update lastgood.copies as c
set verified_at = p.verified_at
from lastgood.restore_points as p
where p.id = c.point_id and p.verified_at is not null
    and not exists (select from lastgood.copies as other where other.point_id = c.point_id and other.store <> c.store);
-- What a store should have, the newest first.
create index copies_newest on lastgood.copies (store, stored_at desc);
create index copies_unproven on lastgood.copies ((coalesce(verified_at, stored_at)));

-- Points of before stores had names. The first producer that knows the primary store's name moves them to the copies.
create table lastgood.unplaced_points (
    point_id uuid primary key references lastgood.restore_points (id) on delete cascade
);
insert into lastgood.unplaced_points (point_id)
select p.id from lastgood.restore_points as p
where not exists (select from lastgood.copies as c where c.point_id = p.id);

-- The stores that each point is to be in: those of the producers' stores files.
create table lastgood.stores (
    name text primary key
        constraint stores_name_is_a_name check (length(name) between 1 and 64 and name ~ '^[a-z0-9][a-z0-9_-]*$'),
    -- All points up to this one were looked at when the store was new; what came since, the trigger looked at.
    filled_to uuid,
    is_filled boolean not null default false
);

-- What a store is to have and has not. Kept by triggers, so that nobody has to look for it among all points.
create table lastgood.missing_copies (
    store text not null references lastgood.stores (name) on delete cascade,
    point_id uuid not null references lastgood.restore_points (id) on delete cascade,
    consistent_at timestamptz not null,
    primary key (store, point_id)
);
create index missing_copies_newest on lastgood.missing_copies (store, consistent_at desc);
create index missing_copies_point on lastgood.missing_copies (point_id);

create function lastgood.points_are_missed() returns trigger language plpgsql as $$
begin
    insert into lastgood.missing_copies (store, point_id, consistent_at)
    select s.name, fresh.id, fresh.consistent_at
    from fresh cross join lastgood.stores as s
    where not exists (select from lastgood.copies as c where c.point_id = fresh.id and c.store = s.name)
    on conflict do nothing;
    return null;
end $$;

create trigger points_are_missed after insert on lastgood.restore_points
    referencing new table as fresh for each statement execute function lastgood.points_are_missed();

create function lastgood.copies_arrive() returns trigger language plpgsql as $$
begin
    delete from lastgood.missing_copies as m using fresh where m.store = fresh.store and m.point_id = fresh.point_id;
    return null;
end $$;

create trigger copies_arrive after insert on lastgood.copies
    referencing new table as fresh for each statement execute function lastgood.copies_arrive();

-- A store that turns out to lack a copy gets it again.
create function lastgood.copies_go() returns trigger language plpgsql as $$
begin
    insert into lastgood.missing_copies (store, point_id, consistent_at)
    select gone.store, p.id, p.consistent_at
    from gone
    join lastgood.restore_points as p on p.id = gone.point_id
    join lastgood.stores as s on s.name = gone.store
    on conflict do nothing;
    return null;
end $$;

create trigger copies_go after delete on lastgood.copies
    referencing old table as gone for each statement execute function lastgood.copies_go();
