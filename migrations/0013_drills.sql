-- Drills: restores into scratch servers that prove what can be restored, and what the last of them found.

alter table lastgood.runs drop constraint runs_kind_is_known;
alter table lastgood.runs add constraint runs_kind_is_known
    check (kind in ('backup', 'restore', 'drop_replaced', 'copy', 'verify', 'expire', 'drill'));

-- One drill of a resource at a time: any number of producers may ask.
create unique index runs_one_drill_at_a_time on lastgood.runs (resource_id)
    where kind = 'drill' and state in ('queued', 'running');
create index runs_ended_drills on lastgood.runs (finished_at) where kind = 'drill' and finished_at is not null;

alter table lastgood.restore_points
    add column drilled_at timestamptz,
    add column drill_outcome text
        constraint restore_points_drill_outcome_is_known check (drill_outcome in ('proven', 'differs', 'failed', 'not_possible')),
    add constraint restore_points_drill_has_an_outcome check ((drilled_at is null) = (drill_outcome is null));

comment on column lastgood.restore_points.drilled_at is 'When a drill of it last ended.';

alter table lastgood.resources
    add column drill_tried_at timestamptz,
    add column drill_outcome text
        constraint resources_drill_outcome_is_known check (drill_outcome in ('proven', 'differs', 'failed', 'not_possible')),
    add column drill_because text
        constraint resources_drill_reason_is_bounded check (octet_length(drill_because) <= 8192),
    add column drill_point uuid,
    add column drill_proven_at timestamptz,
    add column drills bigint not null default 0
        constraint resources_drills_count check (drills >= 0),
    add column restore_seconds double precision
        constraint resources_restore_takes_time check (restore_seconds >= 0),
    add column restore_measured_at timestamptz,
    add constraint resources_drill_has_an_outcome check ((drill_tried_at is null) = (drill_outcome is null));

comment on column lastgood.resources.drill_tried_at is 'When the last drill of one of its points ended.';
comment on column lastgood.resources.drill_because is 'Why that drill proved nothing.';
comment on column lastgood.resources.drill_point is 'The point that it was of. Not a reference: points go.';
comment on column lastgood.resources.drill_proven_at is 'When a drill last proved a point of it.';
comment on column lastgood.resources.drills is 'How many drills have ended: every other one is of an older point.';
comment on column lastgood.resources.restore_seconds is 'How long the last drill that proved a point, or the last restore, took.';

-- What is due is found without reading what is not.
create index resources_to_drill on lastgood.resources (tier, engine, drill_tried_at nulls first)
    where newest_consistent_at is not null and status <> 'removed' and coalesce(drill_outcome, 'proven') = 'proven';
create index resources_not_drilled on lastgood.resources (tier, engine, drill_tried_at)
    where newest_consistent_at is not null and status <> 'removed' and drill_outcome in ('differs', 'failed', 'not_possible');
-- Whose proof is overdue.
create index resources_drill_proven on lastgood.resources (tier, engine, drill_proven_at nulls first)
    where newest_consistent_at is not null and status <> 'removed';
