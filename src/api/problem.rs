//! How a refused request is answered: with problem details (RFC 9457) that say what to do.

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use lastgood_jobs::error::chain;

pub(super) use crate::nouns::ProblemKind as Kind;
use crate::{
    catalog::CatalogError, master::MasterKeyError, nouns::ProblemDetails, request::RequestError,
    secret::SecretError,
};

/// The reason a request was refused. The envelope writes the response, because it knows the request's id.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    retry_after_seconds: Option<u32>,
}

impl Kind {
    fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::NotAllowed => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NoSuchMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAccepted => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Limited => StatusCode::TOO_MANY_REQUESTS,
            Self::Fault | Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable | Self::TimedOut => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            retry_after_seconds: None,
        }
    }

    /// Returns the one answer for things that do not exist and things that this token may not see, so that a caller
    /// cannot tell them apart.
    pub(super) fn no_such(what: &str, id: &str) -> Self {
        let id: String = id
            .chars()
            .filter(|c| !lastgood_jobs::printable::steers(*c))
            .take(128)
            .collect();
        Self::new(
            Kind::NotFound,
            format!("there is no {what} {id:?} that this token may see"),
        )
    }

    pub(super) fn after(self, seconds: u32) -> Self {
        Self {
            retry_after_seconds: Some(seconds),
            ..self
        }
    }

    /// Writes the response for the request with this id.
    pub(super) fn write(self, request_id: &str) -> Response {
        let status = self.kind.status();
        let details = ProblemDetails {
            status: Some(status.as_u16()),
            instance: Some(request_id.to_owned()),
            retry_after_seconds: self.retry_after_seconds,
            ..ProblemDetails::new(self.kind, self.detail)
        };
        let body = serde_json::to_vec(&details).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::NoToken {
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"lastgood\""),
            );
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        let kind = Kind::from(&error);
        let told = |detail: String| Self::new(kind, detail);
        match error {
            CatalogError::NotFound { what, id, .. } => Self::no_such(what, &id),
            CatalogError::Exists(id) => told(format!(
                "resource {id:?} already exists: ids are never reused, choose another"
            )),
            CatalogError::NoConnection(id) => told(format!(
                "resource {id:?} has no connection, because it was rebuilt from manifests: PATCH its `url` or `connection`, then its `status`"
            )),
            CatalogError::RestoreUnderWay(id) => told(format!(
                "a restore of {id:?} is queued or running: wait for it, see GET /api/v1/runs?resource={id}"
            )),
            CatalogError::PointExpired(id) | CatalogError::TooLateToKeep(id) => told(format!(
                "restore point {id} has expired and is being removed: choose another of the resource's restore-points"
            )),
            CatalogError::QuotaReached { team, most } => Self::new(
                kind,
                format!(
                    "team {team:?} has {most} resources, the most that its own tokens may register: remove one, or ask the operator to raise the limit"
                ),
            ),
            CatalogError::NotSuspect(id) => told(format!(
                "restore point {id} is not suspect: there is nothing to confirm"
            )),
            CatalogError::Removed(id) => told(format!(
                "resource {id:?} was removed: register the database under a new id"
            )),
            CatalogError::KeyReused => told(
                "the Idempotency-Key was used for another request on this resource: use a new one"
                    .to_owned(),
            ),
            CatalogError::BadKey => Self::new(kind, "an Idempotency-Key has 1 to 255 characters"),
            CatalogError::Unreachable(source) => {
                tracing::warn!(error = chain(&source), "the catalog does not answer");
                Self::new(kind, "the catalog does not answer: try again; with the same Idempotency-Key, nothing is done twice").after(5)
            }
            CatalogError::Busy(source) => {
                tracing::warn!(
                    error = chain(&source),
                    "another transaction blocks a request"
                );
                Self::new(kind, "another transaction blocks this request, perhaps one that used the same Idempotency-Key: nothing was done, try again").after(5)
            }
            CatalogError::MasterKeyReplaced => {
                tracing::error!(
                    "a URL cannot be sealed: the master key was replaced, and this process has the old one"
                );
                Self::new(
                    kind,
                    "the master key was replaced a moment ago: nothing was done, try again",
                )
                .after(5)
            }
            CatalogError::TokenNameInUse(_)
            | CatalogError::KeyInUse(_)
            | CatalogError::NoKeyInUse(_)
            | CatalogError::PointsHeld { .. }
            | CatalogError::OnlyCopies { .. }
            | CatalogError::StoreVanished(_) => told(error.to_string()),
            CatalogError::BadUrl
            | CatalogError::NotMigrated(_)
            | CatalogError::MadeBefore
            | CatalogError::Migrate(_)
            | CatalogError::TooOld(_)
            | CatalogError::BadRow { .. }
            | CatalogError::ClocksApart { .. }
            | CatalogError::Statement(_) => Self::fault(&error),
        }
    }
}

impl Problem {
    /// Returns a fault of ours. The cause goes to the log; the caller learns only the request's id.
    fn fault(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(
            error = chain(error),
            "a request failed because of a fault in lastgood"
        );
        Self::new(
            Kind::Fault,
            "the request may or may not have taken effect; tell the operator the id in `instance`: the log has the reason under it",
        )
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let kind = Kind::from(&error);
        let told = |detail: String| Self::new(kind, detail);
        match error {
            RequestError::Catalog(error) => error.into(),
            RequestError::Secret(error) => error.into(),
            RequestError::Url(error) => told(format!("`url` cannot be used: {}", error.report())),
            RequestError::Name(error) => told(error.to_string()),
            RequestError::MasterKey(error) => {
                tracing::error!(error = chain(&error), "a URL cannot be sealed: this process's LASTGOOD_MASTER_KEY is not the catalog's master key");
                Self::new(
                    kind,
                    "URLs cannot be sealed here: `lastgood api` has a master key that is not the catalog's; the operator must give it the consumers' key",
                )
            }
            RequestError::Engine(_) | RequestError::StoredOptions(..) => Self::fault(&error),
            RequestError::NoOptions(engine) => told(format!("`read_preference`, `users_and_roles` and `shard` are for MongoDB only: leave them out for {engine}")),
            RequestError::NoOwners(engine) => told(format!("`no_owner` and `no_acl` are for PostgreSQL only: leave them out for {engine}")),
            RequestError::PostgresOnly { word, engine } => told(format!("`{word}` is for PostgreSQL only: leave it out for {engine}")),
            RequestError::ServersOwn(database) => told(format!(
                "database {database:?} is the server's own: give `into` the name of an empty database"
            )),
            RequestError::NoMerge(engine) => told(format!(
                "`merge` is for Redis only: with `overwrite`, {engine} replaces what the backup has and leaves the rest as it is"
            )),
            RequestError::NotOverwritten(id) => told(format!("to restore over existing data, repeat the resource's id: \"overwrite\": {id:?}", id = id.as_str())),
            RequestError::WholeServer => {
                told("a Redis backup covers a whole server: `into` must be env:NAME or file:/path of another server's URL".to_owned())
            }
            RequestError::OtherPoint { point, .. } => Self::no_such("restore point", &point.to_string()),
            RequestError::Expired { point, .. } => told(format!("restore point {point} has expired and is being removed: choose another")),
            RequestError::Damaged { point, because, .. } => told(format!(
                "restore point {point} was found damaged ({because}): choose another, or try it with \"even_quarantined\": true"
            )),
            RequestError::Suspect { point, because, .. } => told(format!(
                "restore point {point} is suspect ({because}): choose another, confirm it if it can be trusted (POST /api/v1/restore-points/{point}/confirm), or restore from it anyway with \"even_suspect\": true"
            )),
            RequestError::NothingBefore { at, .. } => told(format!("there is no restore point at or before {}: see the resource's restore-points", at.to_rfc3339())),
            RequestError::NoKey { opens, .. } => told(match opens {
                Some(at) => format!("the newest restore point is encrypted to a key that is not on record: choose one at or before {}", at.to_rfc3339()),
                None => "the restore points are encrypted to keys that are not on record: ask the operator to recover the keys".to_owned(),
            }),
            RequestError::NothingUsable(_) => told("there is no trusted restore point: the resource was never backed up, or its restore points are suspect, damaged or expired; see its restore-points".to_owned()),
        }
    }
}

impl From<MasterKeyError> for Problem {
    fn from(error: MasterKeyError) -> Self {
        RequestError::from(error).into()
    }
}

impl From<SecretError> for Problem {
    fn from(error: SecretError) -> Self {
        let kind = Kind::from(&error);
        match error {
            SecretError::UrlInArgv => Self::new(
                kind,
                "a URL was given where a name or a reference belongs: send URLs only in `url`",
            ),
            SecretError::NotAReference => Self::new(
                kind,
                "a reference is env:NAME or file:/absolute/path, as consumers see it",
            ),
            SecretError::Empty(_) => Self::new(kind, "`url` is empty, or larger than 64 KiB"),
            SecretError::NoMasterKey => {
                tracing::error!("a URL cannot be sealed: this process has no LASTGOOD_MASTER_KEY");
                Self::new(
                    kind,
                    "URLs cannot be sealed here: the operator must give `lastgood api` the master key",
                )
            }
            SecretError::NoSuchVariable(_)
            | SecretError::NoSuchFile { .. }
            | SecretError::NotAFile { .. }
            | SecretError::NoAnswer { .. }
            | SecretError::BadMasterKey
            | SecretError::KeyInArgv
            | SecretError::DoesNotOpen => Self::fault(&error),
        }
    }
}
