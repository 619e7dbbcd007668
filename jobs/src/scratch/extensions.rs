//! Which of the dump's extensions does a scratch PostgreSQL have, and who may create them?

use std::collections::BTreeMap;

use super::{
    Scratch,
    error::{NotPossible, StartError},
    postgres::address,
};
use crate::engine::postgres::{
    names::{identifier, literal},
    session::{self, answer, run},
};

/// An extension that the server could create.
struct Offered {
    /// Whether an ordinary role may create it in its own database.
    is_for_all: bool,
    /// Whether it comes in the dump's version.
    has_version: bool,
}

impl Scratch {
    /// Creates the extensions that only a superuser may create, before the dump is restored by a role that is none.
    ///
    /// `wanted` are the manifest's: names and versions. The dump's version is taken if the server has it, and the default
    /// otherwise. One that the server does not have at all is [`NotPossible::NoExtension`]. Those that the database's
    /// owner may create are left to the restore, and so are all of them on a configured server.
    ///
    /// The manifest does not say which schemas they were in: they come into `public`, or where they insist to be.
    pub async fn create_extensions(
        &self,
        wanted: &BTreeMap<String, String>,
    ) -> Result<(), StartError> {
        let url = self.admin_url().unwrap_or(self.url());
        let mut session = session::connect(&address(url)?).await?;
        for (extension, version) in wanted {
            let Some(offered) = ask(&mut session, extension, version).await? else {
                return Err(NotPossible::NoExtension {
                    extension: extension.clone(),
                    version: version.clone(),
                    server: self.version().to_owned(),
                }
                .into());
            };
            if offered.is_for_all || self.admin_url().is_none() {
                continue;
            }
            let version = if offered.has_version {
                format!("version {}", literal(version))
            } else {
                String::new()
            };
            let create = format!(
                "set search_path = public; create extension if not exists {} {version} cascade",
                identifier(extension)
            );
            run(&mut session, "create an extension", create).await?;
        }
        session::close(session).await;
        Ok(())
    }
}

/// Asks for one extension; `None` if the server does not have it.
async fn ask(
    session: &mut sqlx::PgConnection,
    extension: &str,
    version: &str,
) -> Result<Option<Offered>, StartError> {
    let question = "select coalesce(bool_and(not superuser or trusted), false), bool_or(version = $2) \
                    from pg_available_extension_versions where name = $1";
    let row = sqlx::query_as::<_, (bool, Option<bool>)>(question)
        .bind(extension)
        .bind(version)
        .fetch_one(session);
    let (is_for_all, has_version) = answer("look for an extension", row).await?;
    Ok(has_version.map(|has_version| Offered {
        is_for_all,
        has_version,
    }))
}
