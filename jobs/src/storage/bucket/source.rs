//! Where do a bucket's keys come from?

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use futures::future::BoxFuture;
use secrecy::SecretString;

/// The keys of a bucket.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Identifies the keys. Not a secret.
    pub access_key_id: String,
    /// Signs requests.
    pub secret_access_key: SecretString,
    /// Set for lent keys only.
    pub session_token: Option<SecretString>,
}

/// Where a bucket's keys come from. Its `Debug` shows no secret.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// The same keys for the life of the process.
    Fixed(Credentials),
    /// Read again every five minutes, and at once if the service refuses them, because somebody rotates them.
    Read {
        /// The keys as they were at startup.
        first: Credentials,
        /// Reads the keys again.
        again: Arc<dyn ReadKeys>,
    },
    /// Lent for about an hour, and requested again before they expire.
    Lent(Lender),
}

impl From<Credentials> for KeySource {
    fn from(keys: Credentials) -> Self {
        Self::Fixed(keys)
    }
}

/// Reads keys that may have been rotated.
pub trait ReadKeys: fmt::Debug + Send + Sync {
    /// Returns the current keys, or why they cannot be read, without showing a secret.
    fn read(&self) -> BoxFuture<'_, Result<Credentials, String>>;
}

/// A lender of keys, and how to reach it.
#[derive(Debug, Clone)]
pub struct Lender {
    /// The kind of lender.
    pub by: LentBy,
    /// The only part of this process's environment that the lender's client sees.
    pub surroundings: Surroundings,
}

/// The kinds of lenders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LentBy {
    /// AWS STS or a compatible service, in exchange for a token in a file: IRSA in EKS.
    WebIdentity,
    /// The agent beside a container: ECS, Fargate or EKS Pod Identity.
    Container,
    /// The files of the AWS command line: a profile's keys, or its SSO session.
    Profile,
    /// The metadata service of an EC2 instance, version 2.
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

/// Environment variables by name, and the home directory. Its `Debug` shows only the names, because a value may be a
/// secret.
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
