-- Returns a JSON value as RFC 8785 prints it: no spaces, the keys of an object in order. It differs for numbers that a double does not
-- hold, for those below 0.000001, and in the order of keys beyond U+FFFF. The ledger of proofs has none of these.
create or replace function lastgood.canonical_json(value jsonb) returns text
language plpgsql stable parallel safe as $$
begin
    return case jsonb_typeof(value)
        when 'object' then (
            select '{' || coalesce(string_agg(
                to_json(field.key)::text || ':' || lastgood.canonical_json(field.value), ',' order by field.key collate "C"
            ), '') || '}'
            from jsonb_each(value) as field
        )
        when 'array' then (
            select '[' || coalesce(string_agg(lastgood.canonical_json(element.value), ',' order by element.place), '') || ']'
            from jsonb_array_elements(value) with ordinality as element (value, place)
        )
        else value::text
    end;
end $$;
