-- Enqueues an ad-hoc backup, with the rules of the HTTP API, and says in `outcome` what became of the request: `new`, `replayed`,
-- `no_resource`, `removed`, `bad_key`, `key_reused`, `resource_limit` or `team_limit`.
--
-- It locks no resource: a caller's long transaction must not hold up a tick. Requests that others have not committed yet do not count
-- towards the limits. Sequential scans are off because nothing is known of the tables before their first statistics.
create or replace function lastgood.ask_for_backup(
    resource text, idempotency_key text,
    out outcome text, out run uuid, out retry_after_seconds integer
) language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
#variable_conflict use_column
declare
    target record;
    earlier record;
    limits record;
    -- What was asked for since counts.
    since timestamptz := clock_timestamp() - interval '1 hour';
    full_since timestamptz;
begin
    if length(ask_for_backup.idempotency_key) not between 1 and 255 then
        outcome := 'bad_key';
        return;
    end if;
    select r.team, r.engine, r.status into target from lastgood.resources as r where r.id = ask_for_backup.resource;
    if not found then
        outcome := 'no_resource';
        return;
    end if;

    -- What was asked for before was answered before: under no limit, whatever has become of the resource.
    select r.id, r.kind, r.trigger into earlier from lastgood.runs as r
    where r.resource_id = ask_for_backup.resource and r.idempotency_key = ask_for_backup.idempotency_key;
    if found then
        run := earlier.id;
        outcome := case when earlier.kind = 'backup' then 'replayed' else 'key_reused' end;
        return;
    end if;
    if target.status = 'removed' then
        outcome := 'removed';
        return;
    end if;

    select l.per_resource, l.per_team into limits from lastgood.adhoc_limits as l;
    -- The oldest of as many as are allowed: when it is an hour old, there is room again. Running backups are few, and not in
    -- `runs_adhoc_of`: they are read by their state.
    select asked.created_at into full_since
    from (
        (
            select r.created_at from lastgood.runs as r
            where r.resource_id = ask_for_backup.resource and r.kind = 'backup' and r.trigger = 'adhoc' and r.created_at > since
                and r.state <> 'running'
            order by r.created_at desc limit greatest(limits.per_resource, 1)
        )
        union all
        select r.created_at from lastgood.runs as r
        where r.state = 'running' and r.resource_id = ask_for_backup.resource and r.kind = 'backup' and r.trigger = 'adhoc'
            and r.created_at > since
    ) as asked
    order by asked.created_at desc offset greatest(limits.per_resource - 1, 0) limit 1;
    if found or limits.per_resource = 0 then
        outcome := 'resource_limit';
        retry_after_seconds := ceil(extract(epoch from coalesce(full_since, clock_timestamp()) - since));
        return;
    end if;
    select asked.created_at into full_since
    from (
        select newest.created_at
        from lastgood.resources as of cross join lateral (
            select r.created_at from lastgood.runs as r
            where r.resource_id = of.id and r.kind = 'backup' and r.trigger = 'adhoc' and r.created_at > since and r.state <> 'running'
            order by r.created_at desc limit greatest(limits.per_team, 1)
        ) as newest
        where of.team = target.team
        union all
        select r.created_at from lastgood.runs as r join lastgood.resources as of on of.id = r.resource_id
        where r.state = 'running' and r.kind = 'backup' and r.trigger = 'adhoc' and r.created_at > since and of.team = target.team
    ) as asked
    order by asked.created_at desc offset greatest(limits.per_team - 1, 0) limit 1;
    if found or limits.per_team = 0 then
        outcome := 'team_limit';
        retry_after_seconds := ceil(extract(epoch from coalesce(full_since, clock_timestamp()) - since));
        return;
    end if;

    insert into lastgood.runs as fresh (queue, kind, trigger, resource_id, priority, args, idempotency_key)
    values (
        target.engine, 'backup', 'adhoc', ask_for_backup.resource, lastgood.priority('backup', 'adhoc'), lastgood.job('backup'),
        ask_for_backup.idempotency_key
    )
    on conflict do nothing
    returning fresh.id into run;
    outcome := 'new';
    if run is null then
        -- The same request, at the same time: its transaction was waited for.
        select r.id, r.kind into earlier from lastgood.runs as r
        where r.resource_id = ask_for_backup.resource and r.idempotency_key = ask_for_backup.idempotency_key;
        run := earlier.id;
        outcome := case when earlier.kind = 'backup' then 'replayed' else 'key_reused' end;
    end if;
end $$;

-- By default a function is everybody's.
revoke all on function lastgood.ask_for_backup(text, text) from public;
