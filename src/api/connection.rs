//! How is a resource said to be reached, and may this caller say so?

use lastgood_jobs::{
    engine::leans_on_machine,
    resource::{Engine, ResourceId},
};
use secrecy::SecretString;

use super::{
    Api,
    access::Caller,
    problem::{Kind, Problem},
};
use crate::{catalog::StoredConnection, request, secret::Reference};

/// How a resource is said to be reached.
pub(super) struct Given<'a> {
    pub(super) url: Option<&'a SecretString>,
    pub(super) reference: Option<&'a str>,
}

impl Given<'_> {
    /// Returns what the catalog is to keep, if anything is given.
    pub(super) async fn stored(
        &self,
        caller: &Caller,
        api: &Api,
        id: &ResourceId,
        engine: Engine,
    ) -> Result<Option<StoredConnection>, Problem> {
        match (self.url, self.reference) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(Problem::new(
                Kind::NotAccepted,
                "give `url` or `connection`, not both",
            )),
            (Some(url), None) => {
                within_network(caller, engine, url)?;
                Ok(Some(
                    request::seal(&api.catalog, api.master_keys.as_ref(), id, engine, url).await?,
                ))
            }
            (None, Some(reference)) => {
                // Whoever names a secret of the consumers' may name another team's.
                caller.speaks_for_all()?;
                let reference: Reference = reference.parse()?;
                Ok(Some(StoredConnection::Reference(reference.to_string())))
            }
        }
    }
}

/// Refuses a caller who is bound to a team a URL that leans on the consumers' own machine: there, who asks is the password.
fn within_network(caller: &Caller, engine: Engine, url: &SecretString) -> Result<(), Problem> {
    let Some(team) = caller.team() else {
        return Ok(());
    };
    match leans_on_machine(engine, url).map_err(request::RequestError::Url)? {
        None => Ok(()),
        Some(what) => Err(Problem::new(
            Kind::NotAllowed,
            format!(
                "this token is bound to team {team:?}, and `url` leans on {what} of the consumers: name a host, and no more of their machine, \
                 or use a token that is bound to none"
            ),
        )),
    }
}
