-- MongoDB and Redis: what a resource's owner may choose about its backups. The service knows which engine has which.
alter table lastgood.resources
    add column options jsonb not null default '{}'
        constraint resources_options_are_an_object check (jsonb_typeof(options) = 'object');
