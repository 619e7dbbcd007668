//! Where do the keys to a bucket come from?

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use futures::future::BoxFuture;
use secrecy::SecretString;

/// The keys to a bucket.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Names the keys; no secret.
    pub access_key_id: String,
    /// Signs requests.
    pub secret_access_key: SecretString,
    /// Comes with keys that are lent for a while.
    pub session_token: Option<SecretString>,
}

/// Where the keys to a bucket come from. Its `Debug` shows no secret.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// The same ones for as long as the process lives.
    Fixed(Credentials),
    /// Read again every five minutes, and at once when the service refuses them: somebody rotates them.
    Read {
        /// The keys as they were at the start.
        first: Credentials,
        /// Reads them again.
        again: Arc<dyn ReadKeys>,
    },
    /// Lent for an hour or so, and asked for again before they run out.
    Lent(Lender),
}

impl From<Credentials> for KeySource {
    fn from(keys: Credentials) -> Self {
        Self::Fixed(keys)
    }
}

/// Reads keys that may have been rotated.
pub trait ReadKeys: fmt::Debug + Send + Sync {
    /// Returns the keys as they are now, or why they cannot be read, in words that hold no secret.
    fn read(&self) -> BoxFuture<'_, Result<Credentials, String>>;
}

/// Who lends keys, and how to reach them.
#[derive(Debug, Clone)]
pub struct Lender {
    /// Who.
    pub by: LentBy,
    /// What the lender's client may know of this process's environment: it sees nothing else.
    pub surroundings: Surroundings,
}

/// Who lends keys for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LentBy {
    /// AWS STS, or a service that speaks its language, in exchange for the token in a file: IRSA in EKS.
    WebIdentity,
    /// The agent beside a container: ECS, Fargate, EKS Pod Identity.
    Container,
    /// The files of the AWS command line: a profile's keys, or its SSO session.
    Profile,
    /// The metadata service of a machine in EC2, in its second version.
    Instance,
}

impl fmt::Display for LentBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WebIdentity => "web identity",
            Self::Container => "container",
            Self::Profile => "profile",
            Self::Instance => "instance",
        })
    }
}

/// Environment variables by name, and the home directory. Its `Debug` shows names alone: one of the values may be a secret.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// The variables that are set.
    pub variables: BTreeMap<String, String>,
    /// The home directory.
    pub home: Option<PathBuf>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("variables", &self.variables.keys())
            .field("home", &self.home)
            .finish()
    }
}
