-- Tables whose rows pg_dump would read, and of which policies hide some from this role. An extension's own tables are not dumped,
-- but for those that it says have the customer's rows.
select string_agg(hidden.name, ', ' order by hidden.name) filter (where hidden.nth <= 3), current_user::text
from (
    select c.oid::regclass::text as name, row_number() over (order by c.oid) as nth
    from pg_class c
    where c.relkind = 'r' and c.relrowsecurity and row_security_active(c.oid)
        and not exists (
            select from pg_depend d
            join pg_extension e on e.oid = d.refobjid
            where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_extension'::regclass
                and d.deptype = 'e' and not coalesce(c.oid = any (e.extconfig), false)
        )
) hidden
