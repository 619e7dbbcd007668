-- Functions in SQL or PL/pgSQL that check constraints, generated columns and indexes call, that set no search path of their own, and
-- whose text has the name of a table or function of a schema of the customer's without a schema before it.
with called as (
    select distinct on (p.oid)
        p.oid, p.prosrc, pg_describe_object(d.classid, d.objid, d.objsubid) as caller
    from pg_depend d
    join pg_proc p on p.oid = d.refobjid
    join pg_language l on l.oid = p.prolang
    left join pg_constraint con on d.classid = 'pg_constraint'::regclass and con.oid = d.objid
    left join pg_attrdef def on d.classid = 'pg_attrdef'::regclass and def.oid = d.objid
    left join pg_attribute a on a.attrelid = def.adrelid and a.attnum = def.adnum
    left join pg_class i on d.classid = 'pg_class'::regclass and i.oid = d.objid
    where d.refclassid = 'pg_proc'::regclass
        and l.lanname in ('sql', 'plpgsql')
        and (con.contype = 'c' or to_jsonb(a) ->> 'attgenerated' = 's' or i.relkind = 'i')
        and not exists (select from unnest(p.proconfig) setting where setting like 'search\_path=%')
        and not exists (
            select from pg_depend own
            where own.classid = 'pg_proc'::regclass and own.objid = p.oid and own.deptype = 'e'
        )
    order by p.oid, d.classid, d.objid
),
named as (
    select c.relname::text as name, '($|[^[:alnum:]_$])' as behind
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
        and n.nspname <> 'information_schema' and n.nspname not like 'pg\_%'
    union
    select p.proname::text, '[[:space:]]*\('
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname <> 'information_schema' and n.nspname not like 'pg\_%'
        -- What the system has under the same name is found without a search path.
        and not exists (
            select from pg_proc system
            where system.proname = p.proname and system.pronamespace = 'pg_catalog'::regnamespace
        )
)
select called.caller, called.oid::regprocedure::text, string_agg(distinct named.name, ', ')
from called
join named on position(named.name in called.prosrc) > 0
    and called.prosrc ~ (
        '(^|[^.[:alnum:]_"$])"?' || regexp_replace(named.name, '([^[:alnum:]_])', '\\\1', 'g') || '"?' || named.behind
    )
group by called.caller, called.oid
order by called.oid
limit 20
