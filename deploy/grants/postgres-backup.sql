-- The least that backs up one database of PostgreSQL 14 or later. A superuser runs it in that database, with the names
-- and the password of your own. It reads everything, now and later, and writes nothing.
create role lastgood_backup login password 'PASSWORD' connection limit 8;
grant connect on database shop to lastgood_backup;
grant pg_read_all_data to lastgood_backup;
alter role lastgood_backup in database shop set default_transaction_read_only = on;
-- Before PostgreSQL 15 everybody may create tables in public:  revoke create on schema public from public;
-- Tables with row-level security are refused until the role sees all rows:  alter role lastgood_backup bypassrls;
-- Large objects are not among "all data". Each must be granted:  grant select on large object 4242 to lastgood_backup;
