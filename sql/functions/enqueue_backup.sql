-- Enqueues an ad-hoc backup in the caller's own transaction: the run exists if and when the caller commits. A refusal is an error of class
-- LG, with a hint.
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

-- By default a function is everybody's.
revoke all on function lastgood.enqueue_backup(text, text) from public;
