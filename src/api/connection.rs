//! Which connection does a request give for a resource, and may this caller give it?

use lastgood_jobs::{
    engine::address::Address,
    resource::{Engine, ResourceId},
};
use secrecy::SecretString;

use super::{
    Api,
    access::Caller,
    problem::{Kind, Problem},
};
use crate::{catalog::StoredConnection, request, secret::Reference};

/// The connection that a request gives for a resource.
pub(super) struct Given<'a> {
    pub(super) url: Option<&'a SecretString>,
    pub(super) reference: Option<&'a str>,
}

impl Given<'_> {
    /// Returns the connection to store, if the request gives one.
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
                // A reference names a secret on the consumers' machines, which may be another team's.
                caller.speaks_for_all()?;
                let reference: Reference = reference.parse()?;
                Ok(Some(StoredConnection::Reference(reference.to_string())))
            }
        }
    }
}

/// Refuses a team's caller a URL that depends on the consumers' own machine, where being local can stand in for a password.
fn within_network(caller: &Caller, engine: Engine, url: &SecretString) -> Result<(), Problem> {
    let Some(team) = caller.team() else {
        return Ok(());
    };
    let address = Address::parse(engine, url).map_err(request::RequestError::Url)?;
    match address.leans_on_machine() {
        None => Ok(()),
        Some(what) => Err(Problem::new(
            Kind::NotAllowed,
            format!(
                "this token is bound to team {team:?}, and `url` relies on {what} of the consumers' machine: name only a host, \
                 or use a token that is not bound to a team"
            ),
        )),
    }
}
