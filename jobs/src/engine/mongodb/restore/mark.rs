//! The mark of the run that is filling an empty database: a collection of its own, which stays until the restore is
//! done.
//!
//! An attempt that finds its own run's mark knows that everything there is that run's unfinished work, even if the
//! worker that did it is dead. The mark is in only one database, the first of those being filled, and stands for all of
//! them.

use bson::doc;

use super::target::{self, run};
use crate::{attempt::RunId, engine::mongodb::session::Session, error::JobError};

/// The collection that serves as the mark.
pub(in crate::engine::mongodb) const MARK: &str = "lastgood_restore.mark";

/// Marks a database as being filled by this run and by no other.
pub(super) async fn set(session: &Session, database: &str, run_id: RunId) -> Result<(), JobError> {
    let mark = doc! {
        "_id": run_id.to_string(),
        "about": "lastgood is filling this database; it removes this collection once it is done",
    };
    let doing = "mark the target as this run's";
    let others = doc! {"q": {"_id": {"$ne": run_id.to_string()}}, "limit": 0};
    let command = doc! {"delete": MARK, "deletes": [others], "writeConcern": {"w": "majority"}};
    run(session, doing, database, command).await?;
    // An earlier attempt may have set the same mark.
    let update = doc! {"q": {"_id": run_id.to_string()}, "u": mark, "upsert": true};
    let command = doc! {"update": MARK, "updates": [update], "writeConcern": {"w": "majority"}};
    run(session, doing, database, command).await.map(|_| ())
}

/// Returns whether a database has this run's mark and no other.
pub(super) async fn is_set(
    session: &Session,
    database: &str,
    run_id: RunId,
) -> Result<bool, JobError> {
    let count = |query| {
        let command = doc! {"count": MARK, "query": query};
        run(session, "look for this run's mark", database, command)
    };
    let ours = count(doc! {"_id": run_id.to_string()}).await?;
    let all = count(doc! {}).await?;
    let number = |answer| crate::engine::mongodb::session::number(answer, "n");
    Ok(number(&ours) == Some(1) && number(&all) == Some(1))
}

/// Removes the mark: the restore is done, or undone.
pub(super) async fn remove(session: &Session, database: &str) -> Result<(), JobError> {
    target::drop(session, database, MARK).await
}
