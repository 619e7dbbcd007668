//! How a request's parts are read: bodies, queries, keys and instants, each refused with what to do.

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Query, Request, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, request::Parts},
};
use chrono::{DateTime, Datelike as _, Utc};
use serde::de::DeserializeOwned;

use super::problem::{Kind, Problem};

/// The largest body that is read.
pub(super) const LARGEST_BODY: usize = 64 * 1024;

/// A JSON body. Its errors do not repeat it: it may hold a secret.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(refused(&rejection)),
        }
    }
}

/// A JSON body that may be left out.
pub(super) struct Optional<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Optional<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| of_status(rejection.status()))?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        match Json::from_bytes(&bytes) {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(refused(&rejection)),
        }
    }
}

fn refused(rejection: &JsonRejection) -> Problem {
    let place = place(rejection);
    match rejection {
        JsonRejection::JsonDataError(_) => Problem::new(
            Kind::NotAccepted,
            format!("the body does not fit this route's schema in /api/v1/openapi.json{place}"),
        ),
        JsonRejection::JsonSyntaxError(_) => {
            Problem::new(Kind::BadRequest, format!("the body is not JSON{place}"))
        }
        other => of_status(other.status()),
    }
}

/// Where in the body, and which field: what names no value.
fn place(rejection: &JsonRejection) -> String {
    let error = std::error::Error::source(rejection)
        .and_then(|source| source.source().or(Some(source)))
        .and_then(|source| source.downcast_ref::<serde_json::Error>());
    let Some(error) = error else {
        return String::new();
    };
    let words = error.to_string();
    let field = ["missing field", "unknown field"]
        .into_iter()
        .any(|begin| words.starts_with(begin))
        .then(|| {
            words
                .split(" at line")
                .next()
                .unwrap_or_default()
                .to_owned()
        });
    match field {
        Some(field) => format!(": {field}"),
        None => format!(": see line {}, column {}", error.line(), error.column()),
    }
}

fn of_status(status: StatusCode) -> Problem {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            Kind::TooLarge,
            format!("a body has {LARGEST_BODY} bytes at most"),
        ),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new(
            Kind::NotJson,
            "send JSON, and say so: `Content-Type: application/json`",
        ),
        _ => Problem::new(
            Kind::BadRequest,
            "the body could not be read: send it again",
        ),
    }
}

/// The query of a URL. What is not understood is refused: a misspelt filter must not show everything.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Problem::new(
                Kind::BadRequest,
                format!("the query is not understood: {}", rejection.body_text()),
            )),
        }
    }
}

/// Returns how many to list: 1 to 500, 50 unless said.
pub(super) fn limit(given: Option<i64>) -> Result<i64, Problem> {
    match given.unwrap_or(50) {
        limit @ 1..=500 => Ok(limit),
        _ => Err(Problem::new(Kind::BadRequest, "`limit` is 1 to 500")),
    }
}

/// Returns an instant that a catalog can hold.
pub(super) fn instant(
    name: &str,
    given: Option<DateTime<Utc>>,
) -> Result<Option<DateTime<Utc>>, Problem> {
    match given {
        Some(at) if !(1970..=9999).contains(&at.year()) => Err(Problem::new(
            Kind::BadRequest,
            format!("`{name}` is an instant between the years 1970 and 9999"),
        )),
        other => Ok(other),
    }
}

/// Returns the request's `Idempotency-Key`.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = value
        .to_str()
        .ok()
        .map(str::trim)
        .filter(|key| (1..=255).contains(&key.len()));
    match key {
        Some(key) => Ok(Some(key.to_owned())),
        None => Err(Problem::new(
            Kind::BadRequest,
            "an Idempotency-Key is 1 to 255 printable ASCII characters: use a UUID",
        )),
    }
}

/// Refuses what a table cannot hold and a log must not: control characters.
pub(super) fn plain(name: &str, text: &str) -> Result<(), Problem> {
    if text.is_empty() || text.chars().count() > 1000 || text.chars().any(char::is_control) {
        return Err(Problem::new(
            Kind::NotAccepted,
            format!("`{name}` is 1 to 1000 characters, none of them a control character"),
        ));
    }
    Ok(())
}
