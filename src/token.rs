//! Bearer tokens: the text, which is shown once, and the hash, which is stored.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{Key, aead::Generate as _};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The prefix of every token, by which scanners find leaked ones.
const PREFIX: &str = "lastgood_";

/// What a token permits its holder to do. Stored names are permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// See resources, runs, restore points and the status.
    Read,
    /// Request ad-hoc backups.
    Enqueue,
    /// Request restores.
    Restore,
    /// All of the above, and register and change resources, retry, cancel, pause and drain.
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

    /// Returns whether a token with this scope may do what needs `needed`.
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

/// A text that is not the name of a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a scope: use read, enqueue, restore or admin")]
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

/// A token as its holder has it: an id, which is not secret, and 256 random bits.
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

/// What is stored of a token's secret. A plain hash is enough, because 256 random bits cannot be guessed.
#[derive(Debug, Clone, Copy)]
pub struct TokenHash(blake3::Hash);

impl TokenHash {
    /// Returns a hash from its stored bytes.
    #[must_use]
    pub fn stored(bytes: &[u8]) -> Option<Self> {
        Some(Self(blake3::Hash::from_bytes(bytes.try_into().ok()?)))
    }

    /// Returns the bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Returns whether this is the token's hash, in constant time.
    #[must_use]
    pub fn is_of(&self, token: &Token) -> bool {
        // `blake3::Hash` compares in constant time.
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

    /// Returns the token that the text spells, or `None`. Callers get no reason: a malformed token is refused like an unknown one.
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

    /// Returns the hash to store.
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
        // The secret itself may contain underscores.
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
