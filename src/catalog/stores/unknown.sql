-- The stores that points are on record in and that are not among $1, with how many points. Jumps from name to name by the index.
with recursive named as (
    (select store from lastgood.copies order by store limit 1)
    union all
    select (select next.store from lastgood.copies as next where next.store > named.store order by next.store limit 1)
    from named where named.store is not null
)
select named.store as "store!",
    (select count(*) from lastgood.copies as held where held.store = named.store) as "points!"
from named
where named.store is not null and named.store <> all ($1::text[])
order by named.store
