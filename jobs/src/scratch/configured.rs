//! A database of its own on a PostgreSQL server that the operator keeps for drills.
//!
//! Its name begins with `lastgood_drill_`, and its comment with [`MARK`] and the time. Only what has both is ever dropped.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Drill, Place, Scratch, bounds,
    error::{NotPossible, StartError},
    postgres::{address, create_database},
};
use crate::{
    attempt::RunId,
    detached,
    engine::{
        address::postgres::Address,
        postgres::{
            names::{identifier, literal},
            session::{self, answer, run},
        },
    },
    error::JobError,
};

/// Begins the names of drills' databases. Permanent: the sweep of a later build knows them by it.
const PREFIX: &str = "lastgood_drill_";
/// Begins their comments. Permanent.
const MARK: &str = "scratch database of a lastgood drill, made at ";
/// How old a database must be before a sweep drops it, if nobody is connected to it.
const STALE_AFTER: TimeDelta = TimeDelta::days(1);

/// One database for one drill.
#[derive(Debug)]
pub(super) struct Configured {
    /// The server, under the database that the operator's URL names.
    server: Address,
    database: String,
    /// Whether it is still there.
    is_there: bool,
}

/// Creates a database on the operator's server, with the dump's encoding, and its locale if the server has it.
///
/// The URL's role becomes its owner. A superuser is refused: the dump's own functions would run as one. So is a server of
/// another major version.
pub async fn start_on_configured_postgres(
    url: &SecretString,
    max_bytes: u64,
    drill: Drill,
    major: u32,
    properties: &BTreeMap<String, String>,
    now: DateTime<Utc>,
) -> Result<Scratch, StartError> {
    bounds::check_limit(bounds::POSTGRES, drill.dump_bytes, max_bytes)?;
    let server = address(url)?;
    let mut session = session::connect(&server).await?;
    let version = session::server_version(&mut session).await?;
    if version.major != major {
        return Err(NotPossible::OtherVersion {
            wanted: format!("PostgreSQL {major}"),
            found: format!("PostgreSQL {}", version.text),
        }
        .into());
    }
    if session::is_superuser(&mut session).await? {
        return Err(NotPossible::Superuser.into());
    }
    let database = name(drill.run);
    let replaced_locale =
        create_database(&mut session, major, properties, &database, "default").await?;
    let place = Configured {
        server,
        database: database.clone(),
        is_there: true,
    };
    let mark = format!(
        "comment on database {} is {}",
        identifier(&database),
        literal(&format!("{MARK}{}", now.to_rfc3339()))
    );
    run(&mut session, "mark the database", mark).await?;
    session::close(session).await;
    Ok(Scratch {
        place: Place::Configured(Box::new(place)),
        url: with_database(url, &database),
        admin_url: None,
        version: format!("PostgreSQL {}", version.text),
        replaced_locale,
    })
}

/// Drops the databases that killed drills left on the operator's server: named and marked as ours, older than a day, and
/// without sessions. Returns how many.
pub async fn sweep_configured_postgres(
    url: &SecretString,
    now: DateTime<Utc>,
) -> Result<u64, StartError> {
    let mut session = session::connect(&address(url)?).await?;
    let question = "select datname::text, shobj_description(oid, 'pg_database') from pg_database \
                    where starts_with(datname::text, $1) and pg_has_role(datdba, 'usage')";
    let rows = sqlx::query_as::<_, (String, Option<String>)>(question)
        .bind(PREFIX)
        .fetch_all(&mut session);
    let rows = answer("list the drills' databases", rows).await?;
    let mut dropped = 0;
    for (database, comment) in rows {
        if !is_stale(&comment.unwrap_or_default(), now) {
            continue;
        }
        // Without force: a drill that takes longer than a day is connected.
        let drop = format!("drop database if exists {}", identifier(&database));
        match run(&mut session, "drop a killed drill's database", drop).await {
            Ok(()) => dropped += 1,
            Err(error) => tracing::warn!(%error, database, "a killed drill's database stays"),
        }
    }
    session::close(session).await;
    Ok(dropped)
}

impl Configured {
    pub(super) async fn used_bytes(&self) -> Result<u64, StartError> {
        let mut session = session::connect(&self.server).await?;
        let question = sqlx::query_scalar::<_, i64>("select pg_database_size($1)")
            .bind(&self.database)
            .fetch_one(&mut session);
        let bytes = answer("ask for the database's size", question).await?;
        session::close(session).await;
        Ok(bytes.unsigned_abs())
    }

    /// Drops the database.
    pub(super) async fn end(mut self) -> Result<(), StartError> {
        self.is_there = false;
        let (server, database) = (self.server.clone(), self.database.clone());
        // Even if nobody waits any more.
        let dropped = detached::spawn(async move { drop_database(&server, &database).await }).await;
        let joined = dropped.map_err(std::io::Error::other);
        Ok(joined.map_err(StartError::files("drop the database"))??)
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        if !self.is_there {
            return;
        }
        let (server, database) = (self.server.clone(), self.database.clone());
        detached::spawn_from_drop(async move {
            if let Err(error) = drop_database(&server, &database).await {
                tracing::warn!(%error, database, "a drill's database was not dropped: a later sweep tries again");
            }
        });
    }
}

async fn drop_database(server: &Address, database: &str) -> Result<(), JobError> {
    let mut session = session::connect(server).await?;
    let drop = format!(
        "drop database if exists {} with (force)",
        identifier(database)
    );
    run(&mut session, "drop the drill's database", drop).await?;
    session::close(session).await;
    Ok(())
}

fn name(run: RunId) -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    let run = run.0.simple().to_string();
    format!(
        "{PREFIX}{}_{}",
        run.get(..8).unwrap_or_default(),
        random.get(..8).unwrap_or_default()
    )
}

/// Returns whether a comment is our mark, and from long ago.
fn is_stale(comment: &str, now: DateTime<Utc>) -> bool {
    let made = comment.strip_prefix(MARK).map(DateTime::parse_from_rfc3339);
    made.and_then(Result::ok)
        .is_some_and(|made| now.signed_duration_since(made) > STALE_AFTER)
}

/// Returns a URL that has been parsed before, with another database.
fn with_database(url: &SecretString, database: &str) -> SecretString {
    let text = url.expose_secret().trim();
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let query = rest.split_once('?').map(|(_, query)| format!("?{query}"));
    let query = query.unwrap_or_default();
    format!("{scheme}://{authority}/{database}{query}").into()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("postgres://u:p@h:1/app", "postgres://u:p@h:1/x")]
    #[case::options(
        "postgres://u:p@h/app?sslmode=require",
        "postgres://u:p@h/x?sslmode=require"
    )]
    #[case::several("postgres://u:p@a,b:2/app", "postgres://u:p@a,b:2/x")]
    #[case::socket("postgres://u:p@/app?host=/run/pg", "postgres://u:p@/x?host=/run/pg")]
    fn another_database_is_named_on_the_same_server(#[case] url: &str, #[case] expected: &str) {
        let url = with_database(&url.to_owned().into(), "x");
        assert_eq!(url.expose_secret(), expected);
    }

    #[rstest]
    #[case::ours_and_old(
        "scratch database of a lastgood drill, made at 2026-01-01T00:00:00+00:00",
        true
    )]
    #[case::ours_and_new(
        "scratch database of a lastgood drill, made at 2026-01-02T12:00:00+00:00",
        false
    )]
    #[case::without_a_time("scratch database of a lastgood drill, made at noon", false)]
    #[case::theirs("my own", false)]
    #[case::none("", false)]
    fn only_what_is_marked_and_old_is_dropped(
        #[case] comment: &str,
        #[case] stale: bool,
    ) -> anyhow::Result<()> {
        let now = "2026-01-03T00:00:00Z".parse()?;
        assert_eq!(is_stale(comment, now), stale);
        Ok(())
    }
}
