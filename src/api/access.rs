//! Who is the caller, what may they do, and what may they see?

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{header::AUTHORIZATION, request::Parts},
};
use lastgood_jobs::resource::ResourceId;
use uuid::Uuid;

use super::{
    Api,
    envelope::Noted,
    problem::{Kind, Problem},
};
use crate::{
    catalog::{Holder, Order, ResourceRow},
    nouns::Run,
    token::{Scope, Token},
};

/// The holder of a valid token. Routes get one only through the extractor of the scope that they need, such as [`Reader`].
#[derive(Debug, Clone)]
pub(super) struct Caller(Holder);

/// Defines an extractor for a caller whose token has the given scope.
macro_rules! caller_with {
    ($(#[$doc:meta])* $name:ident, $scope:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name(pub(super) Caller);

        impl FromRequestParts<Arc<Api>> for $name {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
                let caller = Caller::identify(parts, api).await?;
                caller.needs($scope)?;
                Ok(Self(caller))
            }
        }
    };
}

caller_with!(
    /// A caller who may read.
    Reader,
    Scope::Read
);
caller_with!(
    /// A caller who may request backups.
    Enqueuer,
    Scope::Enqueue
);
caller_with!(
    /// A caller who may request restores.
    Restorer,
    Scope::Restore
);
caller_with!(
    /// A caller who may change resources and control the queue.
    Administrator,
    Scope::Admin
);

/// A caller who may read, or anyone if capabilities are public.
pub(super) struct Anybody;

impl FromRequestParts<Arc<Api>> for Anybody {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        if !api.has_public_capabilities {
            Reader::from_request_parts(parts, api).await?;
        }
        Ok(Self)
    }
}

impl Caller {
    async fn identify(parts: &Parts, api: &Api) -> Result<Self, Problem> {
        let nobody = || {
            Problem::new(
                Kind::NoToken,
                "send a valid token, neither revoked nor expired: `Authorization: Bearer lastgood_…`; `lastgood token create` makes one",
            )
        };
        let header = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let text = header.and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let token = text.and_then(Token::parse).ok_or_else(nobody)?;
        let holder = api.catalog.holder(&token).await?.ok_or_else(nobody)?;
        if let Some(noted) = parts.extensions.get::<Noted>() {
            noted.caller(&holder.name);
        }
        Ok(Self(holder))
    }

    fn needs(&self, needed: Scope) -> Result<(), Problem> {
        if self.0.scopes.iter().any(|scope| scope.covers(needed)) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::NotAllowed,
            format!(
                "token {:?} lacks the scope {needed}: use one that has it",
                self.0.name
            ),
        ))
    }

    pub(super) fn token_id(&self) -> Uuid {
        self.0.id
    }

    /// Returns the team that the token is bound to, if any.
    pub(super) fn team(&self) -> Option<&str> {
        self.0.team.as_deref()
    }

    /// Refuses a caller whose token is bound to a team, for requests that concern every team.
    pub(super) fn speaks_for_all(&self) -> Result<(), Problem> {
        match self.team() {
            None => Ok(()),
            Some(team) => Err(Problem::new(
                Kind::NotAllowed,
                format!(
                    "this token is bound to team {team:?}, and this request reaches beyond that team: use a token that is not bound to a team"
                ),
            )),
        }
    }

    /// Returns an order in the caller's name, for the audit log.
    pub(super) fn order(&self, reason: Option<&str>) -> Order {
        Order::new(&format!("token:{}", self.0.name), reason)
    }

    /// Returns a resource that the caller may see. Another team's resource is reported as not found.
    pub(super) async fn resource(&self, api: &Api, id: &str) -> Result<ResourceRow, Problem> {
        let nothing = || Problem::no_such("resource", id);
        // A malformed name cannot be anyone's.
        let name: ResourceId = id.parse().map_err(|_| nothing())?;
        let row = api.catalog.resource(name.as_str()).await?;
        if self.sees(&row.team) {
            Ok(row)
        } else {
            Err(nothing())
        }
    }

    /// Returns a run that the caller may see. Another team's run is reported as not found.
    pub(super) async fn run(&self, api: &Api, id: &str) -> Result<Run, Problem> {
        let nothing = || Problem::no_such("run", id);
        let run = api.catalog.run(id.parse().map_err(|_| nothing())?).await?;
        if self.team().is_some() {
            let owner = api.catalog.resource(&run.resource).await?;
            if !self.sees(&owner.team) {
                return Err(nothing());
            }
        }
        Ok(run)
    }

    pub(super) fn sees(&self, team: &str) -> bool {
        self.team().is_none_or(|mine| mine == team)
    }
}
