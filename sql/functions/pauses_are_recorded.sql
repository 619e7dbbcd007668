-- Keeps when each pause began and ended, whoever ends it.
create or replace function lastgood.pauses_are_recorded() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into lastgood.past_pauses (engine, tier, team, began_at) values (new.engine, new.tier, new.team, new.created_at)
        on conflict do nothing;
    else
        update lastgood.past_pauses as past
        set ended_at = greatest(past.began_at, clock_timestamp())
        where past.ended_at is null and coalesce(past.engine, '') = coalesce(old.engine, '')
            and coalesce(past.tier, '') = coalesce(old.tier, '') and coalesce(past.team, '') = coalesce(old.team, '');
    end if;
    return null;
end $$;

create or replace trigger pauses_recorded after insert or delete on lastgood.pauses
    for each row execute function lastgood.pauses_are_recorded();
