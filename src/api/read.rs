//! How the parts of a request are read: bodies, queries, keys and instants. Every refusal says what to do.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE, request::Parts},
};
use chrono::{DateTime, Datelike as _, Utc};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::problem::{Kind, Problem};

/// The largest request body, in bytes.
pub(super) const LARGEST_BODY: usize = 64 * 1024;

/// A JSON body. Its errors never repeat the body, which may contain a secret.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let bytes = bytes(request, state).await?;
        parsed(&bytes, is_json).map(Self)
    }
}

/// A JSON body that may be left out.
pub(super) struct Optional<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Optional<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let bytes = bytes(request, state).await?;
        if bytes.is_empty() || (is_json && bytes.trim_ascii() == b"null") {
            return Ok(Self(T::default()));
        }
        parsed(&bytes, is_json).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
}

async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state)
        .await
        .map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Problem::new(
                    Kind::TooLarge,
                    format!("the body is too large: send at most {LARGEST_BODY} bytes"),
                )
            } else {
                Problem::new(
                    Kind::BadRequest,
                    "the body could not be read: send it again",
                )
            }
        })
}

fn parsed<T: DeserializeOwned>(bytes: &[u8], is_json: bool) -> Result<T, Problem> {
    if !is_json {
        let detail = "send JSON, and say so: `Content-Type: application/json`";
        return Err(Problem::new(Kind::NotJson, detail));
    }
    // serde also accepts an array of a struct's values in place of an object.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        let detail = "the body is an array, and this route takes an object";
        return Err(Problem::new(Kind::NotAccepted, detail));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let place = place(&error);
        match error.classify() {
            Category::Data => Problem::new(
                Kind::NotAccepted,
                format!(
                    "the body does not fit this route's schema in /api/v1/openapi.json: {place}"
                ),
            ),
            Category::Io | Category::Syntax | Category::Eof => {
                Problem::new(Kind::BadRequest, format!("the body is not JSON: {place}"))
            }
        }
    })
}

/// Returns where the body is wrong, by field name or position. Never returns a value from the body.
fn place(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let names_a_field = ["missing field", "unknown field"]
        .into_iter()
        .any(|begin| words.starts_with(begin));
    if names_a_field {
        return words;
    }
    format!("see line {}, column {}", error.line(), error.column())
}

/// The name or id in a path. A segment that is not UTF-8 becomes a name that nothing has, and so is not found.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(path.map_or_else(
            |_| char::REPLACEMENT_CHARACTER.to_string(),
            |Path(name)| name,
        )))
    }
}

/// The query of a URL. Unknown parameters are refused, so that a misspelt filter does not list everything.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Problem::new(
                Kind::BadRequest,
                format!("the query is not valid: {}", rejection.body_text()),
            )),
        }
    }
}

/// Returns how many items to list: 1 to 500, by default 50.
pub(super) fn limit(given: Option<i64>) -> Result<i64, Problem> {
    match given.unwrap_or(50) {
        limit @ 1..=500 => Ok(limit),
        _ => Err(Problem::new(Kind::BadRequest, "`limit` must be 1 to 500")),
    }
}

/// Returns an instant that the catalog can hold: the years 1970 to 9999.
pub(super) fn instant(
    name: &str,
    given: Option<DateTime<Utc>>,
) -> Result<Option<DateTime<Utc>>, Problem> {
    match given {
        Some(at) if !(1970..=9999).contains(&at.year()) => Err(Problem::new(
            Kind::BadRequest,
            format!("`{name}` must be an instant in the years 1970 to 9999"),
        )),
        other => Ok(other),
    }
}

/// Returns the request's `Idempotency-Key`, if it has one.
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
            "an Idempotency-Key must be 1 to 255 printable ASCII characters: use a UUID",
        )),
    }
}

/// Returns a retention in days. A negative one is refused: it would look like a retention, and veto backups.
pub(super) fn retention(days: Option<i32>) -> Result<Option<i32>, Problem> {
    if days.is_some_and(i32::is_negative) {
        return Err(Problem::new(
            Kind::NotAccepted,
            "`retention_days` must not be negative; 0 vetoes backups",
        ));
    }
    Ok(days)
}

/// Refuses an empty text, one of more than 1000 characters, and control characters, which have no place in a table or a log.
pub(super) fn plain(name: &str, text: &str) -> Result<(), Problem> {
    if text.is_empty() || text.chars().count() > 1000 || text.chars().any(char::is_control) {
        return Err(Problem::new(
            Kind::NotAccepted,
            format!("`{name}` must have 1 to 1000 characters, and no control characters"),
        ));
    }
    Ok(())
}
