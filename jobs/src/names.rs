//! The names of resources, teams, tiers and engines, each parsed once.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use strum::EnumCount;

/// A name that is safe in a path, a file name, a metric label and a log line.
///
/// 1 to 128 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit, without `..`.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check_name($what, text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                check_name($what, &text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The id of one protected database. It is never reused within a catalog.
    ResourceId,
    "resource id"
);
name!(
    /// The id of the customer's team that owns a resource.
    TeamId,
    "team"
);
name!(
    /// A plan's name, as `plans.yaml` spells it.
    Tier,
    "tier"
);

/// The text is not a valid name. Says what it should have been, and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a {what}: use 1 to 128 of A-Z a-z 0-9 . _ - beginning with a letter or digit, without \"..\""
)]
pub struct NameError {
    what: &'static str,
    text: String,
}

fn check_name(what: &'static str, text: &str) -> Result<(), NameError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let begins_well = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if begins_well && text.len() <= 128 && text.bytes().all(allowed) && !text.contains("..") {
        return Ok(());
    }
    let text = text.chars().take(40).collect();
    Err(NameError { what, text })
}

/// An engine that this build can back up and restore.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, EnumCount,
)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// `PostgreSQL`.
    Postgres,
    /// `PostgreSQL` with the pgvector extension. It uses the same tools, but has its own promise and metrics.
    Vector,
    /// MongoDB, and servers that speak its protocol.
    Mongodb,
    /// Redis and Valkey.
    Redis,
}

impl Engine {
    /// Every engine, in display order.
    pub const ALL: [Self; Self::COUNT] = [Self::Postgres, Self::Vector, Self::Mongodb, Self::Redis];

    /// Returns the stored name, which is also the name of the engine's queue. Permanent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Vector => "vector",
            Self::Mongodb => "mongodb",
            Self::Redis => "redis",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of an engine that this build does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "engine {0:?} is not supported by this build: use one of {names}",
    names = Engine::ALL.map(Engine::as_str).join(", ")
)]
pub struct UnsupportedEngine(pub String);

impl FromStr for Engine {
    type Err = UnsupportedEngine;

    fn from_str(text: &str) -> Result<Self, UnsupportedEngine> {
        Self::ALL
            .into_iter()
            .find(|engine| engine.as_str() == text)
            .ok_or_else(|| UnsupportedEngine(text.chars().take(40).collect()))
    }
}
