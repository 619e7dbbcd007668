//! What every request gets, whatever its route: an id, a time limit, security headers, a log line and a metric.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
            X_FRAME_OPTIONS,
        },
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tokio::time::timeout;
use tracing::Instrument as _;
use uuid::Uuid;

use super::problem::{Kind, Problem};
use crate::metrics;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the log line needs to know and only the route learns.
#[derive(Debug, Clone, Default)]
pub(super) struct Noted(Arc<OnceLock<String>>);

impl Noted {
    /// Notes the token's name. The token itself is never logged.
    pub(super) fn caller(&self, name: &str) {
        self.0.get_or_init(|| name.to_owned());
    }
}

pub(super) async fn envelope(
    State(answered_within): State<Duration>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let noted = Noted::default();
    request.extensions_mut().insert(noted.clone());

    let began = Instant::now();
    let span = tracing::info_span!("request", request.id = id);
    let answered = timeout(answered_within, next.run(request))
        .instrument(span)
        .await;
    let mut response = answered.unwrap_or_else(|_| {
        let detail = format!(
            "the answer took more than {}, and the request may or may not have taken effect: try again, with the same Idempotency-Key",
            humantime::format_duration(answered_within)
        );
        Problem::new(Kind::TimedOut, detail).after(5).into_response()
    });
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let headers = response.headers().clone();
        response = problem.write(&id);
        // Keeps headers that the route set, such as `allow`.
        for (name, value) in &headers {
            response
                .headers_mut()
                .entry(name)
                .or_insert_with(|| value.clone());
        }
    }
    protect(response.headers_mut(), &path);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let status = response.status();
    if let Some(route) = &route {
        metrics::api_answered(method.as_str(), route, status.as_u16(), began.elapsed());
    }
    tracing::info!(
        request.id = id,
        http.method = %method,
        http.path = path,
        http.status = status.as_u16(),
        token.name = noted.0.get().map(String::as_str),
        took_ms = began.elapsed().as_secs_f64() * 1000.0,
        "answered"
    );
    response
}

/// Returns the id that the caller sent, if it is safe in a log and a URI; otherwise a new one.
fn request_id(headers: &HeaderMap) -> String {
    let is_plain = |text: &&str| {
        (1..=128).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let given = headers
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .filter(is_plain);
    given.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

fn protect(headers: &mut HeaderMap, path: &str) {
    // The documentation page has its own scripts and styles, and fetches the document.
    let policy = if path.starts_with("/api/docs") {
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
    } else {
        "default-src 'none'; frame-ancestors 'none'"
    };
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, policy),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
