-- Customers' databases that a restore has closed to exchange names: written down before, struck out when they are open. Whatever becomes
-- of the worker, the row says who must be opened again. Without a reference to the run, which is pruned some day; the row is not.
create table lastgood.closed_databases (
    run_id uuid primary key,
    resource_id text not null references lastgood.resources (id),
    database text not null check (length(database) between 1 and 63),
    closed_at timestamptz not null default clock_timestamp(),
    tried_at timestamptz,
    error text check (length(error) <= 2000)
);
