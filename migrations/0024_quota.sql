-- How many resources a team may have that registers them by itself, with a token that is bound to it: each is due at once.

alter table lastgood.adhoc_limits
    add column resources_per_team integer not null default 500
        constraint adhoc_limits_resources_per_team_count check (resources_per_team >= 0);
