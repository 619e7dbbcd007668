-- What each store had of what is on record in it, when it was last listed.
create table lastgood.store_listings (
    store text primary key
        constraint store_listings_store_is_a_name check (length(store) between 1 and 64 and store ~ '^[a-z0-9][a-z0-9_-]*$'),
    -- When somebody last began to list it: one process at a time is enough.
    began_at timestamptz not null,
    -- When it was last listed to the end, and how many points were on record in it then.
    listed_at timestamptz,
    points bigint not null default 0,
    -- Of these, those whose manifest or archive was not there.
    missing bigint not null default 0,
    -- Of the missing ones, those that an operator knows to be lost.
    accepted bigint not null default 0,
    -- So many were missing that no accident explains it: until that is settled, nothing expires.
    vanished_at timestamptz,
    -- It could not be listed, and why.
    failed_at timestamptz,
    failed_because text,
    constraint store_listings_failure_has_a_reason check ((failed_at is null) = (failed_because is null))
);
