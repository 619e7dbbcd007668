-- What a claim and a look at the newest runs cost, however long the backlog and the history are.

-- A claim takes the first few of those that wait, in the order of their index. The planner thinks of all of them: of a backlog of
-- thousands it would rather sort every one, and find the first by reading the history before it.
alter function lastgood.claim(text, bigint, text, interval, integer, integer, smallint, smallint) set enable_sort = off;
alter function lastgood.claim(text, bigint, text, interval, integer, integer, smallint, smallint) set enable_seqscan = off;

create index runs_newest on lastgood.runs (created_at desc);
