//! What of logical replication stays with a database when another takes its name?

use sqlx::PgConnection;

use super::{
    address::Address,
    session::{self, answer},
};
use crate::{error::JobError, job::Restore};

/// Refuses a swap that logical replication would not survive, unless somebody said that it may break; returns what is left to do then.
pub(super) async fn may_break(
    admin: &mut PgConnection,
    own: &Address,
    job: &Restore,
) -> Result<Vec<String>, JobError> {
    let tied = tied_to(admin, own.database()).await?;
    if !tied.is_empty() && !job.break_replication {
        return Err(JobError::BreaksReplication {
            what: tied.join(", "),
        });
    }
    let tied = tied.into_iter().map(|what| {
        format!(
            "{what} stays with the replaced database: whoever follows it sees nothing of the restored one until it is made anew there"
        )
    });
    let published = published(own).await?.into_iter().map(|what| {
        format!("{what} is in the restored database as the backup has it: its subscribers have to be made anew")
    });
    Ok(tied.chain(published).collect())
}

/// Returns each logical slot and subscription that belongs to the database itself, whatever it is called.
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

/// Returns the publications of the database that will be replaced, if there is one that lets us in.
async fn published(own: &Address) -> Result<Vec<String>, JobError> {
    let mut session = match session::connect(own).await {
        Err(
            JobError::DatabaseGone { .. }
            | JobError::DatabaseClosed { .. }
            | JobError::Denied { .. },
        ) => return Ok(Vec::new()),
        connected => connected?,
    };
    let question = "select format('publication %I', pubname) from pg_publication order by 1";
    let published = sqlx::query_scalar::<_, String>(question).fetch_all(&mut session);
    let published = answer("look for publications", published).await;
    session::close(session).await;
    published
}
