-- One of everything that pg_dump knows, on 17 and 18. Runs as a superuser, who is also the owner, in a database that has all
-- extensions of the server. A role that grants name: pg_monitor, which every server has.
create schema app;
create schema "Odd ""schema";
comment on schema app is 'it''s; a \comment
of two lines';
grant usage on schema app to pg_monitor;
alter default privileges in schema app grant select on tables to pg_monitor;

-- Types.
create type app.mood as enum ('sad', 'ok', 'it''s');
alter type app.mood add value 'elated' before 'ok';
create type app.point3 as (x int, y numeric(10, 2), "Z ü" text);
comment on column app.point3.x is 'a composite''s column';
create domain app.positive as int default 1 constraint positive_check check (value > 0);
alter domain app.positive add constraint small check (value < 1000000) not valid;
create type app.span as range (subtype = float8, subtype_diff = float8mi, multirange_type_name = app.spans);
create type app.shell;
create type app.myint;
create function app.myint_in(cstring) returns app.myint language internal immutable strict as 'int4in';
create function app.myint_out(app.myint) returns cstring language internal immutable strict as 'int4out';
create type app.myint (input = app.myint_in, output = app.myint_out, like = int4);
create collation app.german (lc_collate = 'C', lc_ctype = 'POSIX');
create collation app.plain (locale = 'C');

-- Functions of each kind.
create function app.twice(n int, "Odd arg" text default 'x;y') returns int language sql immutable strict parallel safe cost 7 as 'select n * 2';
create function app.rows_of(variadic names text[]) returns table (name text, n bigint) language plpgsql rows 5 set work_mem = '5MB'
    as $f$ begin return query select unnest(names), 1::bigint; end $f$;
create function app.atomic(n int) returns int language sql begin atomic select n + 1; end;
create procedure app.does(inout n int) language plpgsql security definer as $f$ begin n := n + 1; end $f$;
create function app.plus(int, int) returns int language sql immutable as 'select $1 + $2';
create aggregate app.total (int) (sfunc = app.plus, stype = int, initcond = '0', msfunc = app.plus, minvfunc = app.plus, mstype = int);
create aggregate app.middle (float8 order by anyelement) (sfunc = ordered_set_transition, stype = internal, finalfunc = percentile_disc_final, finalfunc_extra);
create function app.fires() returns trigger language plpgsql as $f$ begin return new; end $f$;
create function app.on_ddl() returns event_trigger language plpgsql as $f$ begin end $f$;
comment on function app.twice(int, text) is 'doubles';
grant execute on function app.twice(int, text) to pg_monitor;
revoke execute on function app.plus(int, int) from public;

-- Operators, their classes and families, casts.
create function app.myint_lt(app.myint, app.myint) returns boolean language internal immutable strict as 'int4lt';
create function app.myint_le(app.myint, app.myint) returns boolean language internal immutable strict as 'int4le';
create function app.myint_eq(app.myint, app.myint) returns boolean language internal immutable strict as 'int4eq';
create function app.myint_ge(app.myint, app.myint) returns boolean language internal immutable strict as 'int4ge';
create function app.myint_gt(app.myint, app.myint) returns boolean language internal immutable strict as 'int4gt';
create function app.myint_cmp(app.myint, app.myint) returns int language internal immutable strict as 'btint4cmp';
create operator app.< (leftarg = app.myint, rightarg = app.myint, function = app.myint_lt, commutator = operator(app.>), negator = operator(app.>=), restrict = scalarltsel, join = scalarltjoinsel);
create operator app.<= (leftarg = app.myint, rightarg = app.myint, function = app.myint_le, commutator = operator(app.>=), negator = operator(app.>));
create operator app.= (leftarg = app.myint, rightarg = app.myint, function = app.myint_eq, commutator = operator(app.=), merges, hashes);
create operator app.>= (leftarg = app.myint, rightarg = app.myint, function = app.myint_ge);
create operator app.> (leftarg = app.myint, rightarg = app.myint, function = app.myint_gt);
create operator family app.myint_family using btree;
create operator class app.myint_ops default for type app.myint using btree family app.myint_family as
    operator 1 app.<, operator 2 app.<=, operator 3 app.=, operator 4 app.>=, operator 5 app.>, function 1 app.myint_cmp(app.myint, app.myint);
create cast (app.myint as int) without function as assignment;
create cast (int as app.myint) without function as implicit;
create access method heap_too type table handler heap_tableam_handler;

-- Text search.
create text search dictionary app.simple_too (template = pg_catalog.simple, accept = false);
create text search configuration app.english_too (copy = pg_catalog.english);
alter text search configuration app.english_too alter mapping for asciiword with app.simple_too, english_stem;
create text search parser app.parser_too (start = prsd_start, gettoken = prsd_nexttoken, end = prsd_end, lextypes = prsd_lextype);
create text search template app.template_too (init = dsimple_init, lexize = dsimple_lexize);
create conversion app.latin_too for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8;

-- Tables: columns of each kind, inheritance, partitions, storage, constraints of each kind.
create table app.parent (
    id bigint generated always as identity (start with 100 increment by 5) primary key,
    "Col ""ü" text collate app.german not null default 'a;b''c\d',
    doubled int generated always as (length("Col ""ü") * 2) stored,
    mood app.mood default 'ok', where_at app.point3, positive app.positive, my app.myint, span app.span, spans app.spans,
    big text compression pglz, raw bytea storage external, dropped int, doc xml, at timestamptz default now(),
    constraint named unique (positive) include (mood), constraint checked check (positive <> 13) no inherit
) with (fillfactor = 70, autovacuum_enabled = false, toast.autovacuum_enabled = false);
alter table app.parent drop column dropped;
alter table app.parent alter column big set statistics 500, alter column at set (n_distinct = 100);
alter table app.parent add constraint later check (id > 0) not valid;
insert into app.parent ("Col ""ü", mood, where_at, positive, my, span, spans, big, raw, doc, at)
    select 'row ' || n, 'sad', row(n, n / 3.0, null)::app.point3, n, n, app.span(n, n + 1), app.spans(app.span(n, n + 1), app.span(n + 5, n + 6)),
        repeat('x', n * 10), decode(md5(n::text), 'hex'), null, '2026-01-02 03:04:05.678901+00'::timestamptz + n * interval '1 h'
    from generate_series(14, 400) n;
insert into app.parent ("Col ""ü", positive, at) values (E'tab\t nl\n back\\ null\\N', 1, 'infinity'), ('', 2, '-infinity');
create table app.child (extra int default 7) inherits (app.parent);
insert into app.child (id, "Col ""ü", positive, at) values (1, 'child', 500, '2026-01-01');
create table app.of_type of app.point3 (primary key (x));
create unlogged table app.unlogged (a int);
insert into app.unlogged values (1);
create table app.events (at date not null, id int, note text, primary key (at, id)) partition by range (at);
create table app.events_1 partition of app.events for values from ('2026-01-01') to ('2026-02-01');
create table app.events_2 partition of app.events for values from ('2026-02-01') to ('2026-03-01') partition by hash (id);
create table app.events_2_0 partition of app.events_2 for values with (modulus 2, remainder 0);
create table app.events_2_1 partition of app.events_2 for values with (modulus 2, remainder 1);
create table app.events_rest partition of app.events default;
insert into app.events select date '2026-01-01' + n, n, 'event ' || n from generate_series(0, 99) n;
create index events_note on app.events (note);
create table app.shifts (room int, during tstzrange, exclude using gist (room with =, during with &&) deferrable initially deferred);
insert into app.shifts select n, tstzrange('2026-01-01', '2026-01-02') from generate_series(1, 20) n;
create table app.lines (parent bigint references app.parent on delete cascade on update set null deferrable, at date, id int,
    foreign key (at, id) references app.events match full);
insert into app.lines select id, date '2026-01-01' + (positive % 50), positive % 50 from app.parent where positive between 14 and 60;
alter table app.lines add constraint loose foreign key (parent) references app.parent not valid;
create table app."select" ("from" int, "Group" text);
create table app.no_columns ();
create table "Odd ""schema"."Odd ""table" (like app.parent including all);
alter table app.of_type replica identity full;
create index parent_part on app.parent (lower("Col ""ü") collate "C" desc nulls last) include (id) where positive > 3;
create index parent_brin on app.parent using brin (at) with (pages_per_range = 32);
create unique index parent_nulls on app.parent (my) nulls not distinct where my is not null;
create index parent_trgm on app.parent using gin (big gin_trgm_ops);
create index parent_bloom on app.parent using bloom (positive, big);
alter index app.parent_part alter column 1 set statistics 300;
alter table app.parent cluster on parent_pkey;
create statistics app.related (ndistinct, dependencies, mcv) on positive, mood from app.parent;
create statistics app.expression on (positive + 1) from app.parent;
grant select ("Col ""ü"), update (positive) on app.parent to pg_monitor;
grant all on app.events to pg_monitor with grant option;
comment on table app.parent is 'the parent';
comment on column app.parent."Col ""ü" is E'odd\n';
comment on index app.parent_part is 'an index';
comment on constraint named on app.parent is 'a constraint';

-- Extensions' types in columns.
create table app.extended (c citext, h hstore, l ltree, cu cube, i isbn, ia int[], s seg);
insert into app.extended values ('CaSe', 'a=>1, b=>null', 'a.b.c', '(1,2,3)', '978-0-393-04002-9', '{1,2,3}', '1 .. 2');
create index on app.extended using gist (l);
create index on app.extended using gist (ia gist__int_ops);

-- Sequences, views, rules, triggers, policies.
create sequence app.tickets as smallint start 41 increment -3 minvalue -100 maxvalue 50 cache 5 cycle owned by app.lines.id;
select nextval('app.tickets');
create view app.recent with (security_barrier, security_invoker) as select id, positive from app.parent where positive > 10 with local check option;
create view app.circular as select 1 as a;
create view app.numbers as with recursive counted (n) as (values (1) union all select n + 1 from counted where n < 5) select n from counted;
create materialized view app.totals as select mood, count(*) n from app.parent group by mood;
create unique index on app.totals (mood);
create materialized view app.empty as select 1 as one with no data;
create rule no_delete as on delete to app.of_type do instead nothing;
create rule told as on insert to app.recent do also notify told;
create trigger fires before insert or update of positive on app.parent for each row when (new.positive is distinct from 3) execute function app.fires();
create trigger always after insert on app.events for each row execute function app.fires();
create constraint trigger checks after update on app.lines deferrable initially deferred for each row execute function app.fires();
alter table app.parent enable always trigger fires;
alter table app.events disable trigger always;
alter table app.parent enable row level security;
alter table app.parent force row level security;
create policy see on app.parent as restrictive for select to pg_monitor using (positive > 0);
create policy write on app.parent for all using (true) with check (positive < 1000);
create event trigger on_ddl on ddl_command_end when tag in ('CREATE TABLE') execute function app.on_ddl();
alter event trigger on_ddl disable;

-- What reaches elsewhere.
create foreign data wrapper nowhere options (debug 'true');
create server elsewhere type 'x' version '1' foreign data wrapper postgres_fdw options (host 'nowhere.invalid', dbname 'x');
create user mapping for pg_monitor server elsewhere options (user 'x', password 'not a secret');
create foreign table app.remote (a int options (column_name 'b'), b text) server elsewhere options (table_name 'r');
grant usage on foreign server elsewhere to pg_monitor;
create publication "some" for table app.events (at, id), app.parent where (id > 5) with (publish = 'insert, update', publish_via_partition_root);
create publication whole_schema for tables in schema "Odd ""schema";
create publication every for all tables;
create subscription sub connection 'host=nowhere.invalid dbname=x' publication p with (connect = false, slot_name = none, enabled = false);

-- Large objects.
select lo_from_bytea(4242, '\x00010203'), lo_from_bytea(4243, convert_to(repeat('large ', 1000), 'UTF8'));
grant select on large object 4242 to pg_monitor;
comment on large object 4242 is 'an object';
refresh materialized view app.totals;
