//! What archives are encrypted to, what opens them, and where that comes from.
//!
//! The keys are age keys (X25519): `age -d -i FILE` opens what they encrypt, without lastgood.

use std::{fmt, str::FromStr};

use futures::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A public key of age, `age1…`. It encrypts, and opens nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Recipient(age::x25519::Recipient);

/// The text is not a recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a recipient is an age public key, `age1…`: `age-keygen` makes a key pair and prints it")]
pub struct RecipientError;

impl Recipient {
    pub(crate) fn as_age(&self) -> &age::x25519::Recipient {
        &self.0
    }
}

impl FromStr for Recipient {
    type Err = RecipientError;

    fn from_str(text: &str) -> Result<Self, RecipientError> {
        // A refused text is not repeated: it may be an identity.
        text.trim().parse().map(Self).map_err(|_| RecipientError)
    }
}

impl TryFrom<String> for Recipient {
    type Error = RecipientError;

    fn try_from(text: String) -> Result<Self, RecipientError> {
        text.parse()
    }
}

impl From<Recipient> for String {
    fn from(recipient: Recipient) -> Self {
        recipient.to_string()
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A secret key of age, which opens what was encrypted to its recipient. Its `Debug` shows nothing of the key.
#[derive(Clone)]
pub struct Identity(age::x25519::Identity);

/// Why a text holds no identity. The text is not shown, because it may be almost one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No line is an identity.
    #[error("it holds no age identity: a line `AGE-SECRET-KEY-1…`, as `age-keygen` writes it")]
    None,
    /// More than one line is an identity.
    #[error("it holds more than one age identity: give one")]
    Several,
}

impl Identity {
    /// Returns a new identity, drawn from the system's random source.
    #[must_use]
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// Reads an identity file: one identity, and comments.
    pub fn parse(text: &SecretString) -> Result<Self, IdentityError> {
        let lines = text.expose_secret().lines().map(str::trim);
        let mut found = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let line = found.next().ok_or(IdentityError::None)?;
        if found.next().is_some() {
            return Err(IdentityError::Several);
        }
        line.parse().map(Self).map_err(|_| IdentityError::None)
    }

    /// Returns the line that [`Identity::parse`] reads. That line opens every archive of this key.
    #[must_use]
    pub fn to_line(&self) -> SecretString {
        self.0.to_string()
    }

    /// Returns the public half.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }

    pub(crate) fn as_age(&self) -> &age::x25519::Identity {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// The key that new archives are encrypted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveKey {
    /// The key's id, which manifests name.
    pub id: Uuid,
    /// The key's public half.
    pub recipient: Recipient,
}

/// Why an archive's key is not available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key was destroyed: nothing encrypted to it can ever be read.
    #[error("the archive was encrypted to key {key}, which was shredded: it can never be opened")]
    Shredded {
        /// The key.
        key: Uuid,
    },
    /// This keyring does not have the key.
    #[error(
        "the archive was encrypted to key {key} ({recipient}), which is not known here: its escrow `keys/{key}.age` in the \
         store opens with the recovery identity"
    )]
    Unknown {
        /// The key.
        key: Uuid,
        /// The key's public half.
        recipient: Recipient,
    },
    /// The identity belongs to another key.
    #[error(
        "the archive was encrypted to key {key} ({recipient}), but the identity at hand belongs to {found}"
    )]
    Other {
        /// The key.
        key: Uuid,
        /// The key's public half.
        recipient: Recipient,
        /// The public half of the identity at hand.
        found: Recipient,
    },
    /// The key exists but cannot be read now.
    #[error("key {key} cannot be used now: {why}")]
    Unavailable {
        /// The key.
        key: Uuid,
        /// Why not. Holds no secret.
        why: String,
    },
}

impl KeyError {
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Shredded { .. } | Self::Unknown { .. } | Self::Other { .. } => true,
            Self::Unavailable { .. } => false,
        }
    }
}

/// The source of the identities that open archives.
pub trait Keyring: Send + Sync {
    /// Returns the identity of the key `key`, whose public half is `recipient`.
    fn identity<'a>(
        &'a self,
        key: Uuid,
        recipient: &'a Recipient,
    ) -> BoxFuture<'a, Result<Identity, KeyError>>;
}

/// A keyring without keys, which opens only archives that are not encrypted.
#[derive(Debug, Clone, Copy)]
pub struct NoKeys;

impl Keyring for NoKeys {
    fn identity<'a>(
        &'a self,
        key: Uuid,
        recipient: &'a Recipient,
    ) -> BoxFuture<'a, Result<Identity, KeyError>> {
        let recipient = recipient.clone();
        Box::pin(std::future::ready(Err(KeyError::Unknown {
            key,
            recipient,
        })))
    }
}

/// A keyring of one identity, from a file for example.
#[derive(Debug, Clone)]
pub struct OneKey(pub Identity);

impl Keyring for OneKey {
    fn identity<'a>(
        &'a self,
        _key: Uuid,
        _recipient: &'a Recipient,
    ) -> BoxFuture<'a, Result<Identity, KeyError>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_file_is_read_back_and_its_debug_shows_nothing() {
        let identity = Identity::generate();
        let line = identity.to_line();
        let file = format!("# made by hand\n\n{}\n", line.expose_secret());
        let read = Identity::parse(&SecretString::from(file)).unwrap();
        assert_eq!(read.recipient(), identity.recipient());
        assert_eq!(
            format!("{read:?} {:?}", OneKey(identity)),
            "Identity OneKey(Identity)"
        );
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        let secret = Identity::generate().to_line();
        let text = secret.expose_secret();
        let error = text.parse::<Recipient>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains(text));
        for (file, why) in [
            (String::new(), IdentityError::None),
            ("# nothing".to_owned(), IdentityError::None),
            (text[..text.len() - 1].to_owned(), IdentityError::None),
            (format!("{text}\n{text}"), IdentityError::Several),
        ] {
            let error = Identity::parse(&SecretString::from(file)).unwrap_err();
            assert_eq!(error, why);
        }
    }
}
