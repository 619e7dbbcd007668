//! Why something was refused or failed: problem details (RFC 9457), the same from the command line and from the API.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    catalog::CatalogError, master::MasterKeyError, request::RequestError, secret::SecretError,
};

/// The kinds of problems. Their names in `type` never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The request could not be understood.
    BadRequest,
    /// The request has no valid token.
    NoToken,
    /// The token does not permit the request.
    NotAllowed,
    /// There is no such thing, or this token may not see it.
    NotFound,
    /// The path does not support the method.
    NoSuchMethod,
    /// The request conflicts with the current state.
    Conflict,
    /// The body is too large.
    TooLarge,
    /// The body is not JSON.
    NotJson,
    /// The request is understood, but not accepted as it is.
    NotAccepted,
    /// There were too many requests.
    Limited,
    /// lastgood is at fault.
    Fault,
    /// The catalog does not answer, or this process cannot do it at present.
    Unavailable,
    /// The answer took too long.
    TimedOut,
    /// A command failed for another reason. The API never answers with it.
    Failed,
}

/// Problem details. The API adds the members of an HTTP answer, the command line has none of them.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDetails {
    /// The kind of problem, as a URN that does not change, such as `urn:lastgood:problem:conflict`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: &'static str,
    /// The answer's HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u16, required)]
    pub status: Option<u16>,
    /// What is wrong, and what to do.
    pub detail: String,
    /// The request's id, as in `x-request-id` and in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required)]
    pub instance: Option<String>,
    /// In how many seconds to try again, as in `retry-after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

impl ProblemDetails {
    /// Returns the problem outside of any HTTP answer.
    #[must_use]
    pub fn new(kind: ProblemKind, detail: String) -> Self {
        Self {
            kind: format!("urn:lastgood:problem:{}", kind.name()),
            title: kind.title(),
            status: None,
            detail,
            instance: None,
            retry_after_seconds: None,
        }
    }
}

impl ProblemKind {
    fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::NoToken => "no-token",
            Self::NotAllowed => "not-allowed",
            Self::NotFound => "not-found",
            Self::NoSuchMethod => "no-such-method",
            Self::Conflict => "conflict",
            Self::TooLarge => "too-large",
            Self::NotJson => "not-json",
            Self::NotAccepted => "not-accepted",
            Self::Limited => "limited",
            Self::Fault => "fault",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed-out",
            Self::Failed => "failed",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "The request is not valid",
            Self::NoToken => "A valid token is needed",
            Self::NotAllowed => "The token does not allow this request",
            Self::NotFound => "Not found",
            Self::NoSuchMethod => "This path does not support this method",
            Self::Conflict => "The request conflicts with the current state",
            Self::TooLarge => "The body is too large",
            Self::NotJson => "The body is not JSON",
            Self::NotAccepted => "The request is not accepted as it is",
            Self::Limited => "Too many requests",
            Self::Fault => "A fault in lastgood",
            Self::Unavailable => "Not available now",
            Self::TimedOut => "The answer took too long",
            Self::Failed => "The command failed",
        }
    }

    /// Returns the kind of the first error in the chain that has one.
    #[must_use]
    pub fn of_any(error: &anyhow::Error) -> Self {
        let kind = |cause: &(dyn std::error::Error + 'static)| {
            let of_catalog = cause.downcast_ref::<CatalogError>().map(Self::from);
            let of_request = || cause.downcast_ref::<RequestError>().map(Self::from);
            let of_secret = || cause.downcast_ref::<SecretError>().map(Self::from);
            let of_master = || cause.downcast_ref::<MasterKeyError>().map(Self::from);
            let told = || cause.downcast_ref::<Told>().map(|told| told.kind);
            of_catalog
                .or_else(of_request)
                .or_else(of_secret)
                .or_else(of_master)
                .or_else(told)
        };
        error.chain().find_map(kind).unwrap_or(Self::Failed)
    }
}

impl From<&CatalogError> for ProblemKind {
    fn from(error: &CatalogError) -> Self {
        match error {
            CatalogError::NotFound { .. } => Self::NotFound,
            CatalogError::Exists(_)
            | CatalogError::NoConnection(_)
            | CatalogError::RestoreUnderWay(_)
            | CatalogError::PointExpired(_)
            | CatalogError::TooLateToKeep(_)
            | CatalogError::NotSuspect(_)
            | CatalogError::Removed(_)
            | CatalogError::KeyReused
            | CatalogError::TokenNameInUse(_)
            | CatalogError::KeyInUse(_)
            | CatalogError::NoKeyInUse(_)
            | CatalogError::PointsHeld { .. }
            | CatalogError::OnlyCopies { .. }
            | CatalogError::StoreVanished(_) => Self::Conflict,
            CatalogError::QuotaReached { .. } => Self::Limited,
            CatalogError::BadKey => Self::BadRequest,
            CatalogError::Unreachable(_)
            | CatalogError::Busy(_)
            | CatalogError::MasterKeyReplaced => Self::Unavailable,
            CatalogError::BadRow { .. } | CatalogError::Statement(_) => Self::Fault,
            CatalogError::BadUrl
            | CatalogError::NotMigrated(_)
            | CatalogError::MadeBefore
            | CatalogError::Migrate(_)
            | CatalogError::TooOld(_)
            | CatalogError::ClocksApart { .. } => Self::Failed,
        }
    }
}

impl From<&RequestError> for ProblemKind {
    fn from(error: &RequestError) -> Self {
        match error {
            RequestError::Catalog(error) => error.into(),
            RequestError::Secret(error) => error.into(),
            RequestError::MasterKey(error) => error.into(),
            RequestError::Engine(_) | RequestError::StoredOptions(..) => Self::Fault,
            RequestError::Url(_)
            | RequestError::Name(_)
            | RequestError::NoOptions(_)
            | RequestError::NoOwners(_)
            | RequestError::PostgresOnly { .. }
            | RequestError::ServersOwn(_)
            | RequestError::NoMerge(_)
            | RequestError::NotOverwritten(_)
            | RequestError::WholeServer => Self::NotAccepted,
            RequestError::OtherPoint { .. } => Self::NotFound,
            RequestError::Expired { .. }
            | RequestError::Damaged { .. }
            | RequestError::Suspect { .. }
            | RequestError::NothingBefore { .. }
            | RequestError::NothingUsable(_)
            | RequestError::NoKey { .. } => Self::Conflict,
        }
    }
}

impl From<&SecretError> for ProblemKind {
    fn from(error: &SecretError) -> Self {
        match error {
            SecretError::UrlInArgv | SecretError::NotAReference | SecretError::Empty(_) => {
                Self::NotAccepted
            }
            SecretError::NoMasterKey => Self::Unavailable,
            SecretError::NoSuchVariable(_)
            | SecretError::NoSuchFile { .. }
            | SecretError::NotAFile { .. }
            | SecretError::NoAnswer { .. }
            | SecretError::BadMasterKey
            | SecretError::KeyInArgv
            | SecretError::DoesNotOpen => Self::Failed,
        }
    }
}

impl From<&MasterKeyError> for ProblemKind {
    fn from(error: &MasterKeyError) -> Self {
        match error {
            MasterKeyError::Catalog(error) => error.into(),
            MasterKeyError::Secret(error) => error.into(),
            MasterKeyError::Stranger { .. }
            | MasterKeyError::Replaced { .. }
            | MasterKeyError::NotYet { .. } => Self::Unavailable,
        }
    }
}

/// A refusal that is told in words, and its kind.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Told {
    kind: ProblemKind,
    text: String,
}

impl Told {
    /// Returns a refusal of this kind.
    #[must_use]
    pub fn new(kind: ProblemKind, text: String) -> Self {
        Self { kind, text }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_kind_of_an_error_is_found_below_what_was_said_about_it() -> anyhow::Result<()> {
        let conflict = || CatalogError::NotSuspect(uuid::Uuid::nil());
        let wrapped = Err::<(), _>(conflict())
            .context("cannot confirm")
            .unwrap_err();
        assert_eq!(ProblemKind::of_any(&wrapped), ProblemKind::Conflict);
        let of_request = RequestError::Catalog(conflict()).into();
        assert_eq!(ProblemKind::of_any(&of_request), ProblemKind::Conflict);
        assert_eq!(
            ProblemKind::of_any(&anyhow::anyhow!("it broke")),
            ProblemKind::Failed
        );
        let details =
            serde_json::to_value(ProblemDetails::new(ProblemKind::Failed, "it broke".into()))?;
        assert_eq!(
            details,
            serde_json::json!({
                "type": "urn:lastgood:problem:failed", "title": "The command failed", "detail": "it broke",
            })
        );
        Ok(())
    }
}
