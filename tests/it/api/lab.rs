//! The API over a private catalog, without a socket.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode},
};
use lastgood::{
    api::{Settings, app},
    catalog::{NewToken, Order},
    plan::PlansFile,
    secret::MasterKey,
    token::Scope,
};
use metrics_exporter_prometheus::PrometheusBuilder;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use uuid::Uuid;

use crate::database::TestCatalog;

/// An API, its catalog, and the token that stops it.
pub(super) struct Api {
    pub(super) db: TestCatalog,
    app: Router,
    pub(super) stop: CancellationToken,
    _switches: lastgood::api::Switches,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("no JSON: {self:?}"))
    }

    /// Checks the status and returns the body.
    pub(super) fn with(&self, status: u16) -> Result<Value> {
        ensure!(self.status.as_u16() == status, "not {status}: {self:?}");
        if self.body.is_empty() {
            Ok(Value::Null)
        } else {
            self.json()
        }
    }
}

impl Api {
    pub(super) async fn create() -> Result<Self> {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Settings)) -> Result<Self> {
        let db = TestCatalog::create().await?;
        let mut settings = Self::settings()?;
        change(&mut settings);
        let plans = PlansFile::load(concat!(env!("CARGO_MANIFEST_DIR"), "/plans.yaml"));
        let recorder = PrometheusBuilder::new().build_recorder().handle();
        let stop = CancellationToken::new();
        let (app, switches) = app(db.catalog.clone(), &plans, settings, recorder, stop.clone());
        Ok(Self {
            db,
            app,
            stop,
            _switches: switches,
        })
    }

    /// Returns the settings of the tests' API.
    pub(super) fn settings() -> Result<Settings> {
        let key = SecretString::from("bWFzdGVyLWtleS1tYXN0ZXIta2V5LW1hc3Rlci1rZXk=");
        Ok(Settings {
            listen: "127.0.0.1:0".parse()?,
            drain_timeout: Duration::from_secs(1),
            has_public_capabilities: false,
            master_keys: Some(MasterKey::parse(&key)?.into()),
            connections: 1024,
            head_within: Duration::from_secs(10),
            answered_within: Duration::from_secs(30),
        })
    }

    /// Creates a token with these scopes and returns its text.
    pub(super) async fn token(&self, scopes: &[Scope], team: Option<&str>) -> Result<String> {
        let name = Uuid::new_v4().to_string();
        let new = NewToken {
            name: &name,
            scopes,
            team,
            expires_at: None,
        };
        let order = Order::new("test", None);
        let (_, token) = self.db.catalog.create_token(&new, &order).await?;
        Ok(token.reveal().expose_secret().to_owned())
    }

    /// Creates a token with every right.
    pub(super) async fn admin(&self) -> Result<String> {
        self.token(&[Scope::Admin], None).await
    }

    /// Sends a request and returns the answer before its body is read.
    pub(super) async fn begin(&self, request: Request<Body>) -> Result<axum::response::Response> {
        Ok(self.app.clone().call(request).await?)
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Result<Answer> {
        let (parts, body) = self.begin(request).await?.into_parts();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(to_bytes(body, 16 * 1024 * 1024).await?.to_vec())?,
        })
    }

    pub(super) async fn get(&self, token: &str, path: &str) -> Result<Answer> {
        self.send(request(Method::GET, path, Some(token), None)?)
            .await
    }

    pub(super) async fn ask(
        &self,
        method: Method,
        token: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer> {
        self.send(request(method, path, Some(token), body)?).await
    }

    pub(super) async fn post_once(
        &self,
        token: &str,
        path: &str,
        key: &str,
        body: Option<Value>,
    ) -> Result<Answer> {
        let mut request = request(Method::POST, path, Some(token), body)?;
        request
            .headers_mut()
            .insert("idempotency-key", key.parse()?);
        self.send(request).await
    }

    /// Records a restore point of a resource.
    pub(super) async fn restore_point(&self, resource: &str, minutes_ago: i32) -> Result<Uuid> {
        let id = Uuid::new_v4();
        sqlx::query(
            "insert into lastgood.restore_points
                 (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
             values ($1, $2, now() - make_interval(mins => $3), $1::text, '{\"consistency\": \"snapshot\"}', 10, 5)",
        )
        .bind(id)
        .bind(resource)
        .bind(minutes_ago)
        .execute(self.db.pool())
        .await?;
        Ok(id)
    }
}

/// Returns a request below `/api/v1`.
pub(super) fn request(
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> Result<Request<Body>> {
    let mut builder = Request::builder()
        .method(method)
        .uri(format!("/api/v1{path}"));
    if let Some(token) = token {
        builder = builder.header("authorization", format!("Bearer {token}"));
    }
    Ok(match body {
        Some(body) => builder
            .header("content-type", "application/json")
            .body(Body::from(serde_json::to_vec(&body)?))?,
        None => builder.body(Body::empty())?,
    })
}
