-- What operators ask about stores and restore points as a whole.

-- Under which names are stores on record, and is one of them?
create index copies_by_store on lastgood.copies (store);

-- The newest points of all resources: a list without a resource, and by what a store is known again.
create index restore_points_all on lastgood.restore_points (consistent_at desc);
create index restore_points_newest_recorded on lastgood.restore_points (created_at desc)
    where quarantined_at is null and expired_at is null;
