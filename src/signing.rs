//! How is the key that signs exports kept? Like archive keys: in the catalog, its private half sealed under the master key.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lastgood_jobs::error::chain;
use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use secrecy::{ExposeSecret as _, SecretBox, SecretString, zeroize::Zeroizing};
use uuid::Uuid;

use crate::{
    catalog::SealedSigningKey,
    master::Sealer,
    proof::envelope::{Envelope, PublicKey},
    secret::{MasterKey, MasterKeys, SecretError},
};

/// A private key that signs exports.
pub struct Signer {
    seed: SecretBox<[u8; 32]>,
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// Why nothing can be signed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The private half does not open.
    #[error(
        "signing key {key} does not open here: {why}; set the master key that sealed it, or make the next one: `lastgood key rotate --signing`"
    )]
    Unavailable {
        /// Its id.
        key: Uuid,
        /// Why.
        why: String,
    },
    /// The system has no randomness, or the library refuses the key.
    #[error("the system gives no random bytes to make a key from")]
    NoRandomness,
    /// It cannot be sealed.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl Signer {
    /// Returns a new key.
    pub fn generate() -> Result<Self, SigningError> {
        let mut seed = Zeroizing::new([0; 32]);
        let filled = SystemRandom::new().fill(&mut *seed);
        filled.map_err(|_| SigningError::NoRandomness)?;
        Self::of(&seed).ok_or(SigningError::NoRandomness)
    }

    fn of(seed: &[u8; 32]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = PublicKey(pair.public_key().as_ref().try_into().ok()?);
        Some(Self {
            seed: SecretBox::new(Box::new(*seed)),
            pair,
            public,
        })
    }

    /// Opens a key, and checks that the stored public half is its own.
    pub fn open(master: Option<&MasterKeys>, key: &SealedSigningKey) -> Result<Self, SigningError> {
        let unavailable = |why: String| SigningError::Unavailable { key: key.id, why };
        let text = master
            .ok_or(SecretError::NoMasterKey)
            .and_then(|master| master.open(&subject(key.id), &key.seed))
            .map_err(|error| unavailable(chain(&error)))?;
        let signer = STANDARD
            .decode(text.expose_secret())
            .ok()
            .map(Zeroizing::new)
            .and_then(|seed| Self::of(seed.as_slice().try_into().ok()?));
        signer
            .filter(|signer| signer.public == key.public)
            .ok_or_else(|| {
                unavailable("its public half differs from the one in the catalog".to_owned())
            })
    }

    /// Returns the key for the catalog. It opens only under this id.
    pub fn seal(&self, id: Uuid, to: &Sealer<'_>) -> Result<SealedSigningKey, SecretError> {
        Ok(SealedSigningKey {
            id,
            public: self.public,
            seed: self.sealed(id, to.key)?,
            under: to.number,
        })
    }

    /// Returns its private half, sealed under a master key.
    pub fn sealed(&self, id: Uuid, master: &MasterKey) -> Result<Vec<u8>, SecretError> {
        let text = SecretString::from(STANDARD.encode(self.seed.expose_secret()));
        master.seal(&subject(id), &text)
    }

    /// Returns its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Returns a payload, signed.
    #[must_use]
    pub fn sign(&self, payload: &[u8]) -> Envelope {
        Envelope::sign(payload, &self.pair, self.public)
    }
}

/// Returns the name under which a key's secret is sealed. It contains spaces, so no resource can have it. Permanent.
fn subject(id: Uuid) -> String {
    format!("signing key {id}")
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, Result};

    use super::*;

    fn master(byte: char) -> Result<MasterKey> {
        let text = format!("{}=", byte.to_string().repeat(43));
        Ok(MasterKey::parse(&SecretString::from(text))?)
    }

    #[test]
    fn a_signing_key_opens_with_its_master_key_and_as_itself_only() -> Result<()> {
        let (signer, id, right) = (Signer::generate()?, Uuid::from_u128(9), master('A')?);
        let sealed = signer.seal(
            id,
            &Sealer {
                number: 1,
                key: &right,
            },
        )?;
        let keys = MasterKeys::from(right.clone());
        let opened = Signer::open(Some(&keys), &sealed)?;
        let envelope = opened.sign(b"{}");
        assert_eq!(envelope.verify(&[signer.public()])?.0, b"{}");
        let wrong = MasterKeys::from(master('E')?);
        assert!(Signer::open(Some(&wrong), &sealed).is_err());
        let error = Signer::open(None, &sealed).err().context("opened")?;
        assert!(error.to_string().contains("LASTGOOD_MASTER_KEY"), "{error}");
        let moved = SealedSigningKey {
            id: Uuid::from_u128(10),
            ..signer.seal(
                id,
                &Sealer {
                    number: 1,
                    key: &right,
                },
            )?
        };
        assert!(Signer::open(Some(&keys), &moved).is_err());
        let swapped = SealedSigningKey {
            public: Signer::generate()?.public(),
            ..sealed
        };
        assert!(Signer::open(Some(&keys), &swapped).is_err());
        Ok(())
    }
}
