-- The least that restores into a database of its own, beside the one that customers use. A superuser runs it, with the
-- names and the password of your own, and creates there the extensions that only superusers may create (pgvector).
create role lastgood_restore login password 'PASSWORD' connection limit 8;
create database shop_restored owner lastgood_restore template template0;
revoke connect on database shop_restored from public;
