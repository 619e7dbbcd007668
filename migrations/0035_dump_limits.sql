-- How large a tier's dumps may be: consumers, who have no plans file, refuse what is larger. Written by producers, from their plans
-- file; a tier that is missing has no limit.
create table lastgood.dump_limits (
    tier text primary key,
    maximum_dump_bytes bigint not null
        constraint dump_limits_are_positive check (maximum_dump_bytes > 0)
);
