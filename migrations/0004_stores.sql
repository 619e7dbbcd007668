-- Stores: which there are, which is which, and what each holds of the restore points.

create table lastgood.installations (
    id uuid primary key,
    is_own boolean not null default false,
    added_at timestamptz not null default now()
);

comment on table lastgood.installations is
    'Whose restore points are ours: this catalog''s own installation, and those whose place it has taken because their catalog was lost.';
comment on column lastgood.installations.is_own is 'The installation that this catalog is.';

create unique index installations_one_is_own on lastgood.installations (is_own) where is_own;
insert into lastgood.installations (id, is_own) values (gen_random_uuid(), true);

create table lastgood.store_identities (
    name text primary key,
    store_id uuid not null
        constraint store_identities_one_name_a_place unique,
    writes_once boolean not null,
    recorded_at timestamptz not null default now()
);

comment on table lastgood.store_identities is
    'The store that is meant by a name, by the id in its identity object. One place under two names would count as two copies.';
comment on column lastgood.store_identities.writes_once is
    'Whether it was seen to refuse to overwrite. Where it does not, two attempts of one run may replace each other''s manifest.';

create table lastgood.stores (
    name text primary key
        constraint stores_name_is_a_name check (length(name) between 1 and 64 and name ~ '^[a-z0-9][a-z0-9_-]*$'),
    filled_to uuid,
    is_filled boolean not null default false
);

comment on table lastgood.stores is 'The stores that each point is to be in: those of the producers'' stores files.';
comment on column lastgood.stores.filled_to is
    'All points up to this one were looked at when the store was new. What came since, a trigger looked at.';

create table lastgood.copies (
    point_id uuid not null references lastgood.restore_points (id) on delete cascade,
    store text not null
        constraint copies_store_is_a_name check (length(store) between 1 and 64 and store ~ '^[a-z0-9][a-z0-9_-]*$'),
    stored_at timestamptz not null default now(),
    verified_at timestamptz,
    primary key (point_id, store)
);

comment on table lastgood.copies is 'Which stores hold a point, the one that it was made in included.';
comment on column lastgood.copies.verified_at is 'When this copy was last read to its last byte and found whole.';

create index copies_newest on lastgood.copies (store, stored_at desc);
create index copies_unproven on lastgood.copies ((coalesce(verified_at, stored_at)));
create index copies_by_store on lastgood.copies (store);

create table lastgood.missing_copies (
    store text not null references lastgood.stores (name) on delete cascade,
    point_id uuid not null references lastgood.restore_points (id) on delete cascade,
    consistent_at timestamptz not null,
    primary key (store, point_id)
);

comment on table lastgood.missing_copies is
    'What a store is to have and has not. Kept by triggers, so that nobody has to look for it among all points.';

create index missing_copies_newest on lastgood.missing_copies (store, consistent_at desc);
create index missing_copies_point on lastgood.missing_copies (point_id);

create table lastgood.store_listings (
    store text primary key
        constraint store_listings_store_is_a_name check (length(store) between 1 and 64 and store ~ '^[a-z0-9][a-z0-9_-]*$'),
    began_at timestamptz not null,
    listed_at timestamptz,
    points bigint not null default 0,
    missing bigint not null default 0,
    accepted bigint not null default 0,
    vanished_at timestamptz,
    failed_at timestamptz,
    failed_because text,
    constraint store_listings_failure_has_a_reason check ((failed_at is null) = (failed_because is null))
);

comment on table lastgood.store_listings is 'What each store had of what is on record in it, when it was last listed.';
comment on column lastgood.store_listings.began_at is 'When somebody last began to list it: one process at a time is enough.';
comment on column lastgood.store_listings.listed_at is 'When it was last listed to the end.';
comment on column lastgood.store_listings.points is 'How many points were on record in it then.';
comment on column lastgood.store_listings.missing is 'Of these, those whose manifest or archive was not there.';
comment on column lastgood.store_listings.accepted is 'Of the missing ones, those that an operator knows to be lost.';
comment on column lastgood.store_listings.vanished_at is
    'So many were missing that no accident explains it: nothing expires until that is settled.';
comment on column lastgood.store_listings.failed_at is 'When it could not be listed.';
