//! A typed client of lastgood's HTTP API: ask for backups, drills and restores, wait for them, and see what may be promised.
#![doc = include_str!("../README.md")]

mod answer;
mod error;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use reqwest::{
    Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep};
use url::Url;
use uuid::Uuid;

pub use answer::{
    Availability, Capabilities, EngineCapabilities, Proof, ProofOutcome, RestorePoint, Restoring,
    Run, RunState, TierCapabilities,
};
pub use error::{ClientError, Problem};

/// How long one request may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(40);
/// How long a request that may succeed later is retried.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a run is polled while waiting for its end.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The address of a lastgood API, with a token for it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    base: Url,
    token: SecretString,
    http: reqwest::Client,
}

/// What to restore, and into what. The default restores the newest point beside the existing data.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Restore {
    /// Restores the newest point at or before this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
    /// Restores this point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point: Option<Uuid>,
    /// Restores into this empty database on the resource's server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub into: Option<String>,
    /// Replaces the existing data. Must repeat the resource's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<String>,
}

impl Client {
    /// Returns a client of the API at `base`, for example `https://lastgood.internal`. Nothing is sent yet.
    pub fn new(base: &str, token: SecretString) -> Result<Self, ClientError> {
        let base = Url::parse(base)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        Ok(Self {
            base: base.ok_or(ClientError::BadUrl)?,
            token,
            http: http()?,
        })
    }

    /// Asks for a backup now, and returns its run. Idempotent: repeated with the same key, it returns the same backup.
    pub async fn back_up(&self, resource: &str, idempotency_key: &str) -> Result<Run, ClientError> {
        let path = ["resources", resource, "backups"];
        self.ask(
            Method::POST,
            &path,
            Some(idempotency_key),
            Some(&serde_json::json!({})),
        )
        .await
    }

    /// Asks for a restore, and returns its run and the restore point that it uses.
    ///
    /// Idempotent: repeated with the same key, it returns the same restore. The same key with another `restore` is an
    /// error.
    pub async fn restore(
        &self,
        resource: &str,
        restore: &Restore,
        idempotency_key: &str,
    ) -> Result<Restoring, ClientError> {
        let path = ["resources", resource, "restores"];
        self.ask(Method::POST, &path, Some(idempotency_key), Some(restore))
            .await
    }

    /// Asks for a drill of the resource's newest trusted restore point, or of `point`, and returns its run. Once that has
    /// ended, [`proofs`](Self::proofs) says what it found.
    ///
    /// A resource has one drill at a time: while one waits or runs, this returns that one, whichever point it is of.
    pub async fn drill(&self, resource: &str, point: Option<Uuid>) -> Result<Run, ClientError> {
        let path = ["resources", resource, "drills"];
        let body = serde_json::json!({ "point": point });
        self.ask(Method::POST, &path, None, Some(&body)).await
    }

    /// Returns a run as it is now.
    pub async fn run(&self, id: Uuid) -> Result<Run, ClientError> {
        self.ask(Method::GET, &["runs", &id.to_string()], None, None::<&()>)
            .await
    }

    /// Returns a run once it has ended, in whatever state: check that state.
    ///
    /// After `within`, this gives up with [`ClientError::StillUnderWay`]; the run itself goes on.
    pub async fn wait(&self, id: Uuid, within: Duration) -> Result<Run, ClientError> {
        let end = Instant::now() + within;
        loop {
            let run = self.run(id).await?;
            if run.state.has_ended() {
                return Ok(run);
            }
            if Instant::now() >= end {
                return Err(ClientError::StillUnderWay { run: id, within });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Returns a resource's newest restore points, at most 50.
    pub async fn restore_points(&self, resource: &str) -> Result<Vec<RestorePoint>, ClientError> {
        self.ask(
            Method::GET,
            &["resources", resource, "restore-points"],
            None,
            None::<&()>,
        )
        .await
    }

    /// Returns the newest proofs of a resource's restore points, at most 50. The first that is [`ProofOutcome::Proven`]
    /// says which point is known to bring the data back, and how.
    pub async fn proofs(&self, resource: &str) -> Result<Vec<Proof>, ClientError> {
        self.ask_with(
            Method::GET,
            &["proofs"],
            &[("resource", resource)],
            None,
            None::<&()>,
        )
        .await
    }

    /// Returns what may be promised now.
    pub async fn capabilities(&self) -> Result<Capabilities, ClientError> {
        self.ask(Method::GET, &["capabilities"], None, None::<&()>)
            .await
    }

    /// Sends a request, and retries it: every request of this client is safe to repeat. It only reads, carries a key, or
    /// asks for a drill, of which a resource has one at a time.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        idempotency_key: Option<&str>,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        self.ask_with(method, path, &[], idempotency_key, body)
            .await
    }

    async fn ask_with<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        idempotency_key: Option<&str>,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let end = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(200);
        loop {
            let answer = self
                .ask_once(method.clone(), path, query, idempotency_key, body)
                .await;
            match answer {
                Err(error) if error.may_pass() && Instant::now() + pause < end => {
                    sleep(pause).await;
                    pause *= 2;
                }
                other => return other,
            }
        }
    }

    async fn ask_once<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        idempotency_key: Option<&str>,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| ClientError::BadUrl)?
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", self.token.expose_secret()))
            .map_err(|_| ClientError::BadToken)?;
        bearer.set_sensitive(true);
        let mut request = self.http.request(method, url).header(AUTHORIZATION, bearer);
        if let Some(key) = idempotency_key {
            let key = HeaderValue::from_str(key).map_err(|_| ClientError::BadKey)?;
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            let body = serde_json::to_vec(body).map_err(ClientError::NotUnderstood)?;
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let answer = request.send().await.map_err(ClientError::unreachable)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(ClientError::unreachable)?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(ClientError::NotUnderstood);
        }
        Err(refusal(status, &bytes))
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice(body) {
        Ok(problem) => ClientError::Refused(problem),
        // Not the API's answer: a proxy's, for example.
        Err(_) => ClientError::Status(status.as_u16()),
    }
}

/// Returns an HTTP client that trusts this machine's root certificates. It follows no redirect, which could take the
/// token elsewhere.
fn http() -> Result<reqwest::Client, ClientError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ClientError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .timeout(ANSWERED_WITHIN)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(ClientError::unreachable)
}
