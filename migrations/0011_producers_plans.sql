-- Which plans a producer goes by: an API quotes its own file's, and what nobody schedules may not be quoted.

alter table lastgood.producers
    -- The BLAKE3 of the plans in force, in lowercase hex. Null: the producer is of a version that did not say.
    add column plans_blake3 text
        constraint producers_plans_are_hashed check (plans_blake3 ~ '^[0-9a-f]{64}$'),
    -- How old a restore point's proof may be; 0: they are not read back. Null: the producer is of a version that did not say.
    add column verify_within_seconds bigint
        constraint producers_verify_within_is_a_time check (verify_within_seconds >= 0);
