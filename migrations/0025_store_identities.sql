-- Which installation is this, and which store is meant by each name?

-- Whose restore points are ours: this catalog's own installation, and those whose place it has taken.
create table lastgood.installations (
    id uuid primary key,
    -- The one that this catalog is; the others were adopted by name, their own catalog being lost.
    is_own boolean not null default false,
    added_at timestamptz not null default now()
);
create unique index installations_one_is_own on lastgood.installations (is_own) where is_own;
insert into lastgood.installations (id, is_own) values (gen_random_uuid(), true);

-- The store that is meant by a name, by the id in its identity object. One place under two names would count as two copies.
create table lastgood.store_identities (
    name text primary key,
    store_id uuid not null
        constraint store_identities_one_name_a_place unique,
    -- Whether it was seen to refuse to overwrite; where it does not, two attempts of one run may replace each other's manifest.
    writes_once boolean not null,
    recorded_at timestamptz not null default now()
);

-- What live consumers see wrong with a store: gone, exchanged for another, out of reach.
create table lastgood.store_faults (
    store text not null,
    consumer_id text not null references lastgood.consumers (id) on delete cascade,
    why text not null
        constraint store_faults_are_short check (length(why) <= 2000),
    since timestamptz not null default now(),
    primary key (store, consumer_id)
);
create index store_faults_of_a_consumer on lastgood.store_faults (consumer_id);
