//! How are a store's keys given, and how are keys in files read again?

use std::{path::Path, sync::Arc};

use futures::future::{BoxFuture, FutureExt as _};
use lastgood_jobs::{
    error::chain,
    storage::{Credentials, KeySource, LentBy, ReadKeys},
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::secret::Reference;

/// Where the configuration says that keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// They are given in the configuration or the environment.
    Keys,
    /// They are given by the environment, or else lent by the first lender that it names.
    Chain,
    /// They are lent by this lender.
    Lent(LentBy),
}

impl Grant {
    pub(super) const NAMES: [&str; 6] = [
        "keys",
        "chain",
        "web_identity",
        "container",
        "profile",
        "instance",
    ];

    /// Returns the grant with this name. The names must never change: stores files contain them.
    pub(super) fn named(word: &str) -> Option<Self> {
        Some(match word {
            "keys" => Self::Keys,
            "chain" => Self::Chain,
            "web_identity" => Self::Lent(LentBy::WebIdentity),
            "container" => Self::Lent(LentBy::Container),
            "profile" => Self::Lent(LentBy::Profile),
            "instance" => Self::Lent(LentBy::Instance),
            _ => return None,
        })
    }
}

/// The current value of a secret, and the file from which it may be read again.
#[derive(Debug)]
pub(super) struct Given {
    now: SecretString,
    file: Option<Reference>,
}

impl Given {
    pub(super) fn fixed(now: SecretString) -> Self {
        Self { now, file: None }
    }

    /// Returns a secret that is in a file. A pipe can be read only once, so its value never changes.
    pub(super) fn in_file(now: SecretString, path: &str) -> Self {
        let file = Path::new(path)
            .is_file()
            .then(|| Reference::File(path.to_owned()));
        Self { now, file }
    }

    async fn again(&self) -> Result<SecretString, String> {
        match &self.file {
            None => Ok(self.now.clone()),
            Some(file) => file.resolve().await.map_err(|error| chain(&error)),
        }
    }
}

/// Returns the source of keys that were given.
pub(super) fn key_source(id: Given, secret: Given, token: Option<Given>) -> KeySource {
    let first = Credentials {
        access_key_id: id.now.expose_secret().to_owned(),
        secret_access_key: secret.now.clone(),
        session_token: token.as_ref().map(|token| token.now.clone()),
    };
    let in_files = [Some(&id), Some(&secret), token.as_ref()];
    if in_files.iter().flatten().all(|given| given.file.is_none()) {
        return KeySource::Fixed(first);
    }
    let again = Arc::new(InFiles { id, secret, token });
    KeySource::Read { first, again }
}

/// Keys some of which are in files.
#[derive(Debug)]
struct InFiles {
    id: Given,
    secret: Given,
    token: Option<Given>,
}

impl ReadKeys for InFiles {
    fn read(&self) -> BoxFuture<'_, Result<Credentials, String>> {
        async {
            let id = self.id.again().await?;
            Ok(Credentials {
                access_key_id: id.expose_secret().to_owned(),
                secret_access_key: self.secret.again().await?,
                session_token: match &self.token {
                    Some(token) => Some(token.again().await?),
                    None => None,
                },
            })
        }
        .boxed()
    }
}
