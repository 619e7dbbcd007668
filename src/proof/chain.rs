//! Is the ledger what was written? Each proof's hash covers it and the one before, so a row that was changed, removed or moved shows.

use std::fmt::{self, Display};

use serde_json::Value;

use super::canonical;
use crate::nouns::Proof;

/// The version of what is hashed that this build knows.
const VERSION: i16 = 1;

/// A SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash(pub(super) [u8; 32]);

/// Where a chain ends: its last proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last proof's number; 0 if there is none.
    pub number: i64,
    /// Its hash; zeroes if there is none.
    pub hash: Hash,
}

/// The first place at which a chain is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A proof's own hash does not fit it.
    #[error("proof {0} was changed after it was recorded: its hash does not fit what it says")]
    Changed(i64),
    /// A proof fits its hash, and not the proof before.
    #[error(
        "proof {0} does not continue the proof before it: one of the two was replaced by another"
    )]
    Detached(i64),
    /// A number is not there, although a later one is.
    #[error("proof {0} is missing")]
    Missing(i64),
    /// The last proofs are not there.
    #[error("proof {first} is missing, and all that followed, up to {last}")]
    CutOff {
        /// The first that is missing.
        first: i64,
        /// The last that the head of the chain names.
        last: i64,
    },
    /// There are proofs beyond the head.
    #[error("proof {0} was not recorded by lastgood: the head of the chain does not know it")]
    Beyond(i64),
    /// The last proof is not the one that the head names.
    #[error(
        "proof {0} was replaced by another: it is not the one that the head of the chain names"
    )]
    NotTheHead(i64),
    /// This build does not know how the proof was hashed.
    #[error(
        "proof {0} has a version that this build does not know: check it with the version of lastgood that recorded it"
    )]
    Newer(i64),
}

impl Broken {
    /// Returns the number of the first proof that is not as it was.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::Changed(number)
            | Self::Detached(number)
            | Self::Missing(number)
            | Self::Beyond(number)
            | Self::NotTheHead(number)
            | Self::Newer(number)
            | Self::CutOff { first: number, .. } => number,
        }
    }

    /// Returns what is wrong in one word.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Changed(_) => "changed",
            Self::Detached(_) => "detached",
            Self::Missing(_) => "missing",
            Self::CutOff { .. } => "cut_off",
            Self::Beyond(_) => "beyond",
            Self::NotTheHead(_) => "not_the_head",
            Self::Newer(_) => "newer",
        }
    }
}

impl Head {
    /// The head of a chain without proofs.
    pub const EMPTY: Self = Self {
        number: 0,
        hash: Hash([0; 32]),
    };
}

/// Checks that these proofs continue the chain after `head`, in order, and returns the head after them. A chain is checked from
/// [`Head::EMPTY`] on, in as many parts as one likes, and at its end by [`ends_at`].
pub fn follow(head: Head, proofs: &[Proof]) -> Result<Head, Broken> {
    proofs.iter().try_fold(head, |head, proof| {
        let next = head.number + 1;
        if proof.number != next {
            return Err(if proof.number > next {
                Broken::Missing(next)
            } else {
                Broken::Detached(proof.number)
            });
        }
        let hash = intact(proof)?;
        if proof.previous_hash != head.hash.to_string() {
            return Err(Broken::Detached(proof.number));
        }
        Ok(Head {
            number: proof.number,
            hash,
        })
    })
}

/// Checks that a chain that was followed to `reached` ends where the catalog says that it does.
pub fn ends_at(reached: Head, recorded: Head) -> Result<(), Broken> {
    if reached.number < recorded.number {
        return Err(Broken::CutOff {
            first: reached.number + 1,
            last: recorded.number,
        });
    }
    if reached.number > recorded.number {
        return Err(Broken::Beyond(recorded.number + 1));
    }
    if reached.hash != recorded.hash {
        return Err(Broken::NotTheHead(reached.number));
    }
    Ok(())
}

/// Checks that a proof is what its own hash covers, and returns that hash.
pub fn intact(proof: &Proof) -> Result<Hash, Broken> {
    if proof.version != VERSION {
        return Err(Broken::Newer(proof.number));
    }
    let changed = Broken::Changed(proof.number);
    let previous = Hash::parse(&proof.previous_hash).ok_or(changed)?;
    let fields = serde_json::to_value(proof).unwrap_or(Value::Null);
    let hash = canonical::hash(previous, &fields);
    if proof.hash == hash.to_string() {
        Ok(hash)
    } else {
        Err(changed)
    }
}

impl Hash {
    /// Returns the hash that `text` spells: 64 digits in lowercase hex.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 64 || !text.bytes().all(is_digit) {
            return None;
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * place..2 * place + 2)?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests;
