//! What of logical replication stays with a database when another takes its name?

use sqlx::PgConnection;

use super::session::answer;
use crate::error::JobError;

/// Returns a note for each logical slot and subscription that belongs to the database itself, whatever it is called.
pub(super) async fn tied_to(
    admin: &mut PgConnection,
    database: &str,
) -> Result<Vec<String>, JobError> {
    let question = "select format('replication slot %I', slot_name) from pg_replication_slots \
        where database = $1 and slot_type = 'logical' \
        union all \
        select format('subscription %I', s.subname) from pg_subscription s \
        join pg_database d on d.oid = s.subdbid where d.datname = $1 \
        order by 1";
    let tied = sqlx::query_scalar::<_, String>(question).bind(database);
    let tied = answer("look for logical replication", tied.fetch_all(admin)).await?;
    let note = |what: String| {
        format!(
            "{what} stays with the replaced database: whoever follows it sees nothing of the restored one until it is made anew there"
        )
    };
    Ok(tied.into_iter().map(note).collect())
}
