-- Restore points: an index over the manifests in the stores, and what became of each point since it was made.

create table lastgood.restore_points (
    id uuid primary key,
    resource_id text not null references lastgood.resources (id),
    consistent_at timestamptz not null,
    manifest_key text not null unique,
    manifest jsonb not null
        constraint restore_points_manifest_is_an_object check (jsonb_typeof(manifest) = 'object'),
    dump_bytes bigint not null
        constraint restore_points_dump_is_not_empty check (dump_bytes > 0),
    stored_bytes bigint not null
        constraint restore_points_archive_is_not_empty check (stored_bytes > 0),
    created_at timestamptz not null default now(),
    verified_at timestamptz,
    suspected_at timestamptz,
    suspected_of text[],
    suspected_because text,
    confirmed_at timestamptz,
    confirmed_because text,
    quarantined_at timestamptz,
    quarantined_because text
        constraint restore_points_quarantine_is_bounded check (octet_length(quarantined_because) <= 32768),
    pinned_at timestamptz,
    pinned_because text,
    held_at timestamptz,
    held_because text,
    expired_at timestamptz,
    expired_because text,
    removal_began_at timestamptz,
    refused_at timestamptz,
    refused_because text
        constraint restore_points_refusal_is_bounded check (octet_length(refused_because) <= 32768),
    constraint restore_points_quarantine_has_a_reason check ((quarantined_at is null) = (quarantined_because is null)),
    constraint restore_points_pin_has_a_reason check ((pinned_at is null) = (pinned_because is null)),
    constraint restore_points_hold_has_a_reason check ((held_at is null) = (held_because is null)),
    constraint restore_points_expiry_has_a_reason check ((expired_at is null) = (expired_because is null)),
    constraint restore_points_only_expired_ones_are_removed check (removal_began_at is null or expired_at is not null),
    constraint restore_points_refusal_has_a_reason check ((refused_at is null) = (refused_because is null)),
    constraint restore_points_suspicion_has_a_reason check (
        suspected_at is null or (coalesce(cardinality(suspected_of), 0) > 0 and suspected_because is not null)
    ),
    constraint restore_points_confirmation_has_a_reason check ((confirmed_at is null) = (confirmed_because is null)),
    constraint restore_points_confirmed_are_not_suspect check (suspected_at is null or confirmed_at is null)
);

comment on table lastgood.restore_points is
    'The restore points that are on record. The manifests in the stores are the truth; `lastgood catalog rebuild` makes these rows from them.';
comment on column lastgood.restore_points.id is
    'The run that made it. Not a reference: points can be rebuilt from a store, runs cannot.';
comment on column lastgood.restore_points.consistent_at is 'The instant that a restore brings back.';
comment on column lastgood.restore_points.verified_at is
    'When all of it was last read back and found whole, by a verification or by a restore that succeeded.';
comment on column lastgood.restore_points.suspected_at is
    'Made from what was probably not the customer''s data: restored from by name only, ends no exposure, lets no older point go.';
comment on column lastgood.restore_points.suspected_of is 'The reasons, in the manifest''s words. They stay when the point is confirmed.';
comment on column lastgood.restore_points.confirmed_at is 'Somebody looked, and says that the point is right.';
comment on column lastgood.restore_points.quarantined_at is 'Found damaged: restored from by name only, ends no exposure.';
comment on column lastgood.restore_points.pinned_at is 'An operator wants it kept.';
comment on column lastgood.restore_points.held_at is 'The law wants it kept.';
comment on column lastgood.restore_points.expired_at is 'Retention has let it go: nothing is restored from it, and a run removes it.';
comment on column lastgood.restore_points.removal_began_at is 'From here on it is too late to keep it.';
comment on column lastgood.restore_points.refused_at is 'The store would not let it be removed, for an object lock, say. Asked again after a while.';

create index restore_points_newest on lastgood.restore_points (resource_id, consistent_at desc);
create index restore_points_all on lastgood.restore_points (consistent_at desc);
create index restore_points_newest_recorded on lastgood.restore_points (created_at desc)
    where quarantined_at is null and expired_at is null;
create index restore_points_trusted on lastgood.restore_points (resource_id, consistent_at desc)
    where quarantined_at is null and expired_at is null and suspected_at is null;
create index restore_points_suspect on lastgood.restore_points (resource_id, consistent_at desc)
    where suspected_at is not null and quarantined_at is null and expired_at is null;
create index restore_points_of_no_instant on lastgood.restore_points (resource_id, consistent_at desc)
    where (manifest ->> 'consistency') = 'none' and quarantined_at is null and expired_at is null and suspected_at is null;
create index restore_points_unproven on lastgood.restore_points ((coalesce(verified_at, created_at)))
    where quarantined_at is null and expired_at is null;
create index restore_points_proven on lastgood.restore_points (resource_id, verified_at desc)
    where verified_at is not null and quarantined_at is null and expired_at is null;
create index restore_points_quarantined on lastgood.restore_points (quarantined_at) where quarantined_at is not null;
create index restore_points_expired on lastgood.restore_points (expired_at) where expired_at is not null;

-- Whoever chooses among points chooses from one of these two, and so says what becomes of suspect ones.
create view lastgood.usable_points as
select * from lastgood.restore_points where quarantined_at is null and expired_at is null;
create view lastgood.trusted_points as
select * from lastgood.restore_points where quarantined_at is null and expired_at is null and suspected_at is null;

comment on view lastgood.usable_points is 'What can be read: copied, read back, kept.';
comment on view lastgood.trusted_points is
    'What may be counted on: restored from unasked, the end of an exposure, the reason that an older point goes.';
