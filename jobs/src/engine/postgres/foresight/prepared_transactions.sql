-- Prepared transactions of this database that exclude readers from a table. Their locks have no process, and one virtual transaction.
select string_agg(distinct format('%L since %s', x.gid, date_trunc('second', x.prepared)), ', ')
from pg_prepared_xacts x
join pg_locks own on own.locktype = 'transactionid' and own.transactionid = x.transaction and own.pid is null and own.granted
join pg_locks l on l.virtualtransaction = own.virtualtransaction and l.pid is null
where x.database = current_database() and l.locktype = 'relation' and l.granted and l.mode = 'AccessExclusiveLock'
