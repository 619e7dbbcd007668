//! Finds what logical replication leaves behind with a database when another takes its name.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::timeout;

use super::session::{self, answer};
use crate::{
    engine::address::postgres::Address,
    error::{JobError, PostgresError},
    job::Restore,
};

/// A database that is to be replaced may be too broken to answer; the restore does not wait for it.
const PUBLICATIONS_WITHIN: Duration = Duration::from_secs(5);

/// Refuses a swap that would break logical replication, unless the job allows that. Returns notes on what remains to be
/// done then.
pub(super) async fn may_break(
    admin: &mut PgConnection,
    own: &Address,
    job: &Restore,
) -> Result<Vec<String>, JobError> {
    let tied = tied_to(admin, own.database()).await?;
    if !tied.is_empty() && !job.break_replication {
        return Err(JobError::Postgres(PostgresError::BreaksReplication {
            what: tied.join(", "),
        }));
    }
    let tied = tied.into_iter().map(|what| {
        format!(
            "{what} stays with the replaced database: replication does not follow the restored one until you create it \
             again there"
        )
    });
    Ok(tied.chain(published(own).await).collect())
}

/// Returns each logical replication slot and subscription that belongs to this database itself, not to its name.
async fn tied_to(admin: &mut PgConnection, database: &str) -> Result<Vec<String>, JobError> {
    let question = "select format('replication slot %I', slot_name) from pg_replication_slots \
        where database = $1 and slot_type = 'logical' \
        union all \
        select format('subscription %I', s.subname) from pg_subscription s \
        join pg_database d on d.oid = s.subdbid where d.datname = $1 \
        order by 1";
    let tied = sqlx::query_scalar::<_, String>(question).bind(database);
    answer("look for logical replication", tied.fetch_all(admin)).await
}

/// Returns a note for each publication of the database that will be replaced.
///
/// Never fails: that database may be restored because it is broken.
async fn published(own: &Address) -> Vec<String> {
    let asking = async {
        let mut session = session::connect(own).await?;
        let question = "select format('publication %I', pubname) from pg_publication order by 1";
        let published = sqlx::query_scalar::<_, String>(question).fetch_all(&mut session);
        let published = answer("look for publications", published).await;
        session::close(session).await;
        published
    };
    match timeout(PUBLICATIONS_WITHIN, asking).await {
        Ok(Ok(published)) => {
            let note = |what: String| {
                format!(
                    "{what} is in the restored database as the backup has it: create the subscriptions to it again"
                )
            };
            published.into_iter().map(note).collect()
        }
        Ok(Err(JobError::Postgres(PostgresError::DatabaseGone { .. }))) => Vec::new(),
        Ok(Err(_)) | Err(_) => vec![
            "the replaced database did not report its publications: create the subscriptions to any of them again"
                .to_owned(),
        ],
    }
}
