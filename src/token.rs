//! What a bearer token is: its text, which is shown once, and what of it is kept.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{Key, aead::Generate as _};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What every token begins with, so that it is found where it has leaked to.
const PREFIX: &str = "lastgood_";

/// What a token lets its holder do. Stored names are permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// See resources, runs, restore points, status.
    Read,
    /// Ask for ad-hoc backups.
    Enqueue,
    /// Ask for restores.
    Restore,
    /// All of it, and: register and change resources, retry, cancel, pause, drain.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Read, Self::Enqueue, Self::Restore, Self::Admin];

    /// Returns the stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Enqueue => "enqueue",
            Self::Restore => "restore",
            Self::Admin => "admin",
        }
    }

    /// Returns whether a token that holds this scope may do what needs `needed`.
    #[must_use]
    pub fn covers(self, needed: Self) -> bool {
        self == needed || self == Self::Admin
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no scope: use read, enqueue, restore or admin")]
pub struct NoScope(String);

impl FromStr for Scope {
    type Err = NoScope;

    fn from_str(text: &str) -> Result<Self, NoScope> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| NoScope(text.chars().take(40).collect()))
    }
}

/// A token as its holder has it: an id that is no secret, and 256 random bits.
pub struct Token {
    /// Its id.
    pub id: Uuid,
    secret: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What is kept of a token's secret. A plain hash is enough: nobody guesses 256 random bits.
#[derive(Debug, Clone, Copy)]
pub struct TokenHash(blake3::Hash);

impl TokenHash {
    /// Returns a hash as stored.
    #[must_use]
    pub fn stored(bytes: &[u8]) -> Option<Self> {
        Some(Self(blake3::Hash::from_bytes(bytes.try_into().ok()?)))
    }

    /// Returns what is stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Returns whether it is this token's, in a time that tells nothing.
    #[must_use]
    pub fn is_of(&self, token: &Token) -> bool {
        // BLAKE3's hashes compare in constant time.
        self.0 == token.hash().0
    }
}

impl Token {
    /// Returns a new token.
    #[must_use]
    pub fn generate() -> Self {
        Self {
            id: Uuid::new_v4(),
            secret: Zeroizing::new(Key::generate().into()),
        }
    }

    /// Returns the token that a text spells. There is no reason to be told: a text that is none opens nothing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_at_checked(32)?;
        let bytes = URL_SAFE_NO_PAD
            .decode(secret.strip_prefix('_')?)
            .map(Zeroizing::new)
            .ok()?;
        Some(Self {
            id: Uuid::try_parse(id).ok()?,
            secret: Zeroizing::new(bytes.as_slice().try_into().ok()?),
        })
    }

    /// Returns the text that its holder presents.
    #[must_use]
    pub fn reveal(&self) -> SecretString {
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.secret.as_slice()));
        SecretString::from(format!("{PREFIX}{}_{}", self.id.simple(), &*secret))
    }

    /// Returns what is kept of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(blake3::hash(self.secret.as_slice()))
    }
}

impl From<Token> for SecretString {
    fn from(token: Token) -> Self {
        Self::from(token.reveal().expose_secret())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_token_is_its_text_and_no_two_are_the_same() -> anyhow::Result<()> {
        let (one, other) = (Token::generate(), Token::generate());
        let again = Token::parse(one.reveal().expose_secret()).context("it does not parse")?;
        assert_eq!(again.id, one.id);
        assert!(one.hash().is_of(&again));
        assert!(!one.hash().is_of(&other));
        Ok(())
    }

    #[test]
    fn a_token_is_not_seen_in_its_debug() {
        let token = Token::generate();
        let text = token.reveal();
        // The secret may have an underscore of its own.
        let secret = text
            .expose_secret()
            .splitn(3, '_')
            .last()
            .unwrap_or_default();
        assert_eq!(secret.len(), 43);
        assert!(!format!("{token:?} {:?}", token.reveal()).contains(secret));
    }

    #[rstest]
    #[case::empty("")]
    #[case::prefix("lastgood_")]
    #[case::no_secret("lastgood_00000000000000000000000000000000_")]
    #[case::short("lastgood_00000000000000000000000000000000_AAAA")]
    #[case::no_id(
        "lastgood_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    )]
    #[case::not_ascii("lastgood_0000000000000000000000000000000é_A")]
    fn what_is_no_token_opens_nothing(#[case] text: &str) {
        assert!(Token::parse(text).is_none());
    }
}
