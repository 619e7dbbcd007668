alter table lastgood.resources
    -- How the way to its server is protected, as the consumer that last worked for it learned it from the URL: 'verified', 'local', or
    -- why nobody should rely on it. Never a part of the URL.
    add column transport text
        constraint resources_transport_is_short check (length(transport) between 1 and 500);

-- The few that are told of by name.
create index resources_unverified on lastgood.resources (team, id)
    where transport not in ('verified', 'local') and status <> 'removed';
