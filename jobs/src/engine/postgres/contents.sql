with extension_owned as (
    select classid, objid from pg_catalog.pg_depend where deptype = 'e'
),
own_schemas as (
    select oid, nspname
    from pg_catalog.pg_namespace
    where nspname <> 'information_schema' and nspname !~ '^pg_'
),
found as (
    select
        case c.relkind
            when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence'
            when 'f' then 'foreign table' when 'c' then 'type' else 'table'
        end || ' ' || n.nspname || '.' || c.relname as what,
        -- An extension owns a composite type by its type, and not by the relation behind it.
        case c.relkind when 'c' then 'pg_catalog.pg_type'::pg_catalog.regclass else c.tableoid end as classid,
        case c.relkind when 'c' then c.reltype else c.oid end as objid
    from pg_catalog.pg_class c
    join own_schemas n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f', 'c')
    union all
    select 'function ' || n.nspname || '.' || p.proname, p.tableoid, p.oid
    from pg_catalog.pg_proc p
    join own_schemas n on n.oid = p.pronamespace
    union all
    select 'type ' || n.nspname || '.' || t.typname, t.tableoid, t.oid
    from pg_catalog.pg_type t
    join own_schemas n on n.oid = t.typnamespace
    where t.typrelid = 0 and t.typelem = 0 and t.typtype in ('d', 'e', 'r', 'b')
    union all
    select 'schema ' || n.nspname, 'pg_catalog.pg_namespace'::pg_catalog.regclass, n.oid
    from own_schemas n
    -- One that extensions were put into is part of how the target was prepared.
    where n.nspname <> 'public' and not exists (select from pg_catalog.pg_extension e where e.extnamespace = n.oid)
    union all
    select 'large object ' || l.oid, l.tableoid, l.oid
    from pg_catalog.pg_largeobject_metadata l
)
select what
from found
where not exists (
    select
    from extension_owned e
    where e.classid = found.classid and e.objid = found.objid
)
order by what
limit 5
