-- Requests of services: turns that nobody else can take, and a record of who asked by SQL.

-- Whose turn it is: one row for each team, locked while a request over HTTP counts what the team has asked for. An advisory lock is
-- everybody's who can connect; a row of ours is not.
create table lastgood.adhoc_turns (
    team text primary key
);

-- As before, and with a record: what a token's holder asks for has one, too.
create or replace function lastgood.enqueue_backup(resource text, idempotency_key text default null) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    answer record;
begin
    answer := lastgood.ask_for_backup(enqueue_backup.resource, enqueue_backup.idempotency_key);
    if answer.outcome = 'new' then
        -- The user of the session is the service's role: the current one is the function's owner.
        insert into lastgood.audit (actor, action, resource_id, detail)
        values ('sql:' || session_user, 'backup', enqueue_backup.resource, jsonb_build_object('run', answer.run));
    end if;
    if answer.outcome in ('new', 'replayed') then
        return answer.run;
    end if;
    case answer.outcome
        when 'no_resource' then
            raise exception 'there is no resource %', quote_literal(coalesce(resource, ''))
                using errcode = 'LG404', hint = 'register it first: lastgood resource add';
        when 'removed' then
            raise exception 'resource % was removed: it cannot be backed up', quote_literal(resource)
                using errcode = 'LG409', hint = 'register the database under a new id';
        when 'bad_key' then
            raise exception 'an idempotency key has 1 to 255 characters'
                using errcode = 'LG400', hint = 'use a UUID, or the id of what you are about to do';
        when 'key_reused' then
            raise exception 'the idempotency key was used for another request on resource %', quote_literal(resource)
                using errcode = 'LG409', hint = 'use a new key';
        when 'resource_limit' then
            raise exception 'resource % has had as many ad-hoc backups in the last hour as are allowed', quote_literal(resource)
                using errcode = 'LG429', hint = format('try again in %s seconds', answer.retry_after_seconds);
        when 'team_limit' then
            raise exception 'the team of resource % has had as many ad-hoc backups in the last hour as are allowed', quote_literal(resource)
                using errcode = 'LG429', hint = format('try again in %s seconds', answer.retry_after_seconds);
    end case;
end $$;
