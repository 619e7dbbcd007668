-- What the last producer with a plans file planned by. One that has lost its file goes on by that, where its built-in plans know better
-- nothing: it must not undo what another one plans.

create table lastgood.plans_on_record (
    is_only boolean primary key default true
        constraint plans_on_record_is_one_row check (is_only),
    -- Every tier of the file, and of those that are backed up, in the same order, the cadence and the RPO in minutes.
    known text[] not null,
    tiers text[] not null,
    cadences integer[] not null,
    rpos integer[] not null,
    recorded_at timestamptz not null default now(),
    constraint plans_on_record_are_of_one_length
        check (cardinality(tiers) = cardinality(cadences) and cardinality(tiers) = cardinality(rpos))
);
