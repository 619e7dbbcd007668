-- A list of the runs of one engine reads as many as it lists, even where the engine has none.
create index runs_of_engine on lastgood.runs (queue, created_at desc);
