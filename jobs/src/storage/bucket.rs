//! A store in a bucket of S3 or of a compatible service.

mod access;
mod held;
mod lend;
mod pending;
mod signing;
mod source;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use opendal::{
    ErrorKind, HttpTransporter, OperationContext, Operator,
    layers::{RetryLayer, TimeoutLayer},
    services::S3,
};
use opendal_http_transport_reqwest::ReqwestTransport;
use reqsign_aws_v4::RequestSigner;
use reqsign_core::{Context, SignRequest as _};
use secrecy::SecretString;

pub use self::{
    access::{Addressing, BucketAccess, Checksums, Patience, WriteOnce},
    source::{Credentials, KeySource, Lender, LentBy, ReadKeys, Surroundings},
};
use self::{held::HeldKeys, pending::Uploads, signing::Signing};
pub(super) use self::{held::NoKeys, pending::Pending};
use super::{
    Created,
    fault::{failure, without_keys},
};
use crate::{
    error::{JobError, StoreFault},
    object_key::ObjectKey,
};

/// How long it may take to connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The region sent to self-hosted services, which ignore it.
const ANY_REGION: &str = "us-east-1";

/// A bucket, and how patiently it is asked.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    /// Tries only once, for callers that must know whether a request was repeated.
    once: Operator,
    uploads: Arc<Uploads>,
    keys: Arc<HeldKeys>,
    region: Arc<str>,
    patience: Patience,
    write_once: WriteOnce,
}

impl Bucket {
    /// Returns the bucket, and an operator that retries failed requests. Sends nothing yet.
    pub(super) fn open(
        name: &str,
        prefix: &str,
        access: &BucketAccess,
    ) -> Result<(Self, Operator), JobError> {
        let denied = |why: String| JobError::StoreDenied {
            doing: "open",
            key: format!("the bucket {name}"),
            may_pass: false,
            source: StoreFault(why),
        };
        let source = access.credentials.as_ref().ok_or_else(|| {
            denied(
                "no keys are configured: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or LASTGOOD_S3_CREDENTIALS (`credentials:` in \
                 a stores file) where they are lent"
                    .to_owned(),
            )
        })?;
        let region = match (&access.region, &access.endpoint) {
            (Some(region), _) => region.as_str(),
            (None, Some(_)) => ANY_REGION,
            (None, None) => {
                return Err(denied(
                    "no region is configured: set AWS_REGION, or give `region:` where a stores file names the bucket"
                        .to_owned(),
                ));
            }
        };
        let mut service = S3::default()
            .bucket(name)
            .root(prefix)
            .region(region)
            // Use only what was configured: no file in a home directory, and no metadata address of a cloud.
            .disable_config_load()
            .disable_ec2_metadata()
            // The transport signs requests.
            .skip_signature();
        if let Some(endpoint) = &access.endpoint {
            service = service.endpoint(endpoint);
        }
        if !access.is_path_style(name) {
            service = service.enable_virtual_host_style();
        }
        if access.has_checksums() {
            service = service.checksum_algorithm("crc32c");
        }
        let keys = Arc::new(HeldKeys::new(name, source, region)?);
        let sending = ReqwestTransport::new(client(|client| client)?);
        let transport = HttpTransporter::new(Signing::new(sending, Arc::clone(&keys), region));
        let base = Operator::new(service)
            .map_err(|error| denied(error.message().to_owned()))?
            .with_context(OperationContext::new().with_http_transport(transport.clone()));
        let patience = access.patience;
        let once = base.layer(
            TimeoutLayer::new()
                .with_timeout(patience.answer)
                .with_io_timeout(patience.part),
        );
        let operator = once.clone().layer(
            RetryLayer::new()
                .with_max_times(patience.tries)
                .with_min_delay(patience.pause)
                .with_max_delay(patience.pause_max)
                .with_jitter(),
        );
        let uploads = Arc::new(Uploads::new(name, prefix, region, access, transport));
        Ok((
            Self {
                once,
                uploads,
                keys,
                region: region.into(),
                patience,
                write_once: access.write_once,
            },
            operator,
        ))
    }

    /// Writes an object atomically and only once: of two concurrent writers, exactly one gets [`Created::New`].
    ///
    /// If an answer is lost and the object turns out to be there, its bytes tell whose it is.
    pub(super) async fn create(&self, key: &str, bytes: Vec<u8>) -> Result<Created, JobError> {
        let bytes = Bytes::from(bytes);
        match self.write_once {
            WriteOnce::Condition => self.create_on_condition(key, bytes).await,
            WriteOnce::Looked => self.create_and_look(key, bytes).await,
        }
    }

    /// Writes an object if none is found, then checks which one is there: all that is possible with a service that does
    /// not support the condition. A writer that arrives after this check goes unnoticed.
    async fn create_and_look(&self, key: &str, bytes: Bytes) -> Result<Created, JobError> {
        match self.once.stat(key).await {
            Ok(_) => return Ok(Created::AlreadyExists),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failure("look for", key, &error)),
        }
        let written = self.once.write(key, bytes.clone()).await;
        written.map_err(|error| failure("create", key, &error))?;
        Ok(if self.holds(key, &bytes).await? {
            Created::New
        } else {
            Created::AlreadyExists
        })
    }

    async fn create_on_condition(&self, key: &str, bytes: Bytes) -> Result<Created, JobError> {
        let mut pause = self.patience.pause;
        let mut tries = 0;
        let mut perhaps_ours = false;
        loop {
            let written = self
                .once
                .write_with(key, bytes.clone())
                .if_not_exists(true)
                .await;
            match written {
                Ok(_) => return Ok(Created::New),
                Err(error) if error.kind() == ErrorKind::ConditionNotMatch => {
                    let is_ours = perhaps_ours && self.holds(key, &bytes).await?;
                    return Ok(if is_ours {
                        Created::New
                    } else {
                        Created::AlreadyExists
                    });
                }
                Err(error) if error.is_temporary() && tries < self.patience.tries => {
                    tracing::debug!(object.key = %key, error = %error, "retrying a write");
                    perhaps_ours = true;
                }
                Err(error) => return Err(failure("create", key, &error)),
            }
            tries += 1;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.patience.pause_max);
        }
    }

    /// Returns whether the service refuses to overwrite the object that already has these bytes.
    pub(super) async fn refuses_to_overwrite(
        &self,
        key: &str,
        bytes: Vec<u8>,
    ) -> Result<bool, JobError> {
        if self.write_once == WriteOnce::Looked {
            return Ok(false);
        }
        match self.once.write_with(key, bytes).if_not_exists(true).await {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::ConditionNotMatch => Ok(true),
            Err(error) => Err(failure("protect", key, &error)),
        }
    }

    /// Returns a URL from which anybody can read an object until `ttl` has passed.
    pub(super) async fn presign(
        &self,
        key: &ObjectKey,
        ttl: Duration,
    ) -> Result<SecretString, JobError> {
        const SIGN: &str = "sign a URL for";
        let unsigned = |advice, why: String| JobError::StoreUnable {
            doing: SIGN,
            key: key.to_string(),
            advice,
            source: StoreFault(why),
        };
        let keys = self.keys.lasting(ttl).await;
        let keys = keys.map_err(|none| without_keys(SIGN, key, &none))?;
        let asked = http::Request::get(self.uploads.address(key)).body(());
        let asked = asked.map_err(|error| unsigned("check the endpoint", error.to_string()))?;
        let (mut head, ()) = asked.into_parts();
        RequestSigner::new("s3", &self.region)
            .sign_request(&Context::new(), &mut head, Some(&keys), Some(ttl))
            .await
            .map_err(|error| {
                unsigned(
                    "the keys are lent, and expire before the URL would: ask for a shorter lifetime",
                    error.to_string(),
                )
            })?;
        Ok(SecretString::from(head.uri.to_string()))
    }

    /// Returns the client for unfinished uploads.
    pub(super) fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    async fn holds(&self, key: &str, bytes: &Bytes) -> Result<bool, JobError> {
        let found = self.once.read(key).await;
        let found = found.map_err(|error| failure("read back", key, &error))?;
        Ok(found.to_bytes() == *bytes)
    }
}

/// Returns an HTTP client that trusts this machine's root certificates, with adjustments.
fn client(
    adjusted: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> Result<reqwest::Client, JobError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| JobError::Io {
        doing: "set up TLS for a bucket",
        source: std::io::Error::other(error),
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT_WITHIN)
        // A redirect would take customers' data to an address that nobody configured.
        .redirect(reqwest::redirect::Policy::none());
    adjusted(client)
        .build()
        .map_err(|error| failed(error.into()))
}
