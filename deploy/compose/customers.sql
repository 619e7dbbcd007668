-- Two customers of PostgreSQL, as a platform makes them: each owns its database, and may create others so that a restore
-- can swap. The template has pgvector: a plain owner could not create it in a fresh database.
\set shop `cat /run/secrets/shop`
\set embeddings `cat /run/secrets/embeddings`
create role shop login createdb password :'shop';
create role embeddings login createdb password :'embeddings';
create database shop owner shop template template0;
\connect template1
create extension if not exists vector;
create database embeddings owner embeddings;

\connect shop
set role shop;
create table orders (id bigserial primary key, customer text not null, cents integer not null, at timestamptz not null default now());
insert into orders (customer, cents) select 'customer ' || n % 100, n from generate_series(1, 10000) as n;

\connect embeddings
set role embeddings;
create table documents (id bigserial primary key, body text not null, meaning vector(3) not null);
insert into documents (body, meaning)
select 'document ' || n, ('[' || n % 7 || ',' || n % 11 || ',' || n % 13 || ']')::vector from generate_series(1, 1000) as n;
create index documents_by_meaning on documents using hnsw (meaning vector_l2_ops);
