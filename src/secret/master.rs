//! The master key, which seals secrets, and the previous one, which still opens what it sealed.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    Key, XChaCha20Poly1305, XNonce,
    aead::{Aead, Generate, KeyInit, Payload},
};
use secrecy::{ExposeSecret, SecretBox, SecretString, zeroize::Zeroizing};

use super::{SecretError, secret};

/// The first byte of everything sealed, which names the method. Other methods are refused.
const XCHACHA20_POLY1305: u8 = 1;
const NONCE_BYTES: usize = 24;
/// The name that proofs are sealed for. It contains spaces, so no resource can have it. Permanent, like the text.
const PROOF: &str = "proof of the master key";
const PROOF_TEXT: &str = "lastgood";

/// The key that connections and archive keys are sealed under. With it and the catalog, anyone has every customer's URL and can open
/// every archive.
#[derive(Clone)]
pub struct MasterKey(Arc<SecretBox<[u8; 32]>>);

impl MasterKey {
    /// Returns the key that `text` spells: 32 bytes in base64.
    pub fn parse(text: &SecretString) -> Result<Self, SecretError> {
        let bytes = STANDARD
            .decode(text.expose_secret().trim())
            .map(Zeroizing::new)
            .map_err(|_| SecretError::BadMasterKey)?;
        let key: [u8; 32] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| SecretError::BadMasterKey)?;
        Ok(Self(Arc::new(SecretBox::new(Box::new(key)))))
    }

    /// Returns `secret` sealed for `id`, such as a resource's id. It opens for no other id.
    pub fn seal(&self, id: &str, secret: &SecretString) -> Result<Vec<u8>, SecretError> {
        let nonce = XNonce::generate();
        let payload = Payload {
            msg: secret.expose_secret().as_bytes(),
            aad: id.as_bytes(),
        };
        let sealed = self
            .cipher()
            .encrypt(&nonce, payload)
            .map_err(|_| SecretError::DoesNotOpen)?;
        Ok([&[XCHACHA20_POLY1305][..], &nonce, &sealed].concat())
    }

    /// Returns the secret that was sealed for `id`.
    pub fn open(&self, id: &str, sealed: &[u8]) -> Result<SecretString, SecretError> {
        let (&way, rest) = sealed.split_first().ok_or(SecretError::DoesNotOpen)?;
        let (nonce, message) = rest
            .split_at_checked(NONCE_BYTES)
            .ok_or(SecretError::DoesNotOpen)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| SecretError::DoesNotOpen)?;
        if way != XCHACHA20_POLY1305 {
            return Err(SecretError::DoesNotOpen);
        }
        let opened = self
            .cipher()
            .decrypt(
                &XNonce::from(nonce),
                Payload {
                    msg: message,
                    aad: id.as_bytes(),
                },
            )
            .map_err(|_| SecretError::DoesNotOpen)?;
        secret(opened, "the sealed secret")
    }

    /// Returns a proof of this key for the catalog. No two proofs are equal, and none helps to guess the key.
    pub fn proof(&self) -> Result<Vec<u8>, SecretError> {
        self.seal(PROOF, &SecretString::from(PROOF_TEXT))
    }

    /// Returns whether the proof is of this key.
    #[must_use]
    pub fn is_proven_by(&self, proof: &[u8]) -> bool {
        self.open(PROOF, proof)
            .is_ok_and(|text| text.expose_secret() == PROOF_TEXT)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.0.expose_secret()))
    }
}

/// The master keys of a process: its own and, during a rotation, the previous one.
#[derive(Clone)]
pub struct MasterKeys {
    current: MasterKey,
    previous: Option<MasterKey>,
}

impl MasterKeys {
    /// Returns the keys of `LASTGOOD_MASTER_KEY` and `LASTGOOD_PREVIOUS_MASTER_KEY`.
    #[must_use]
    pub fn new(current: MasterKey, previous: Option<MasterKey>) -> Self {
        Self { current, previous }
    }

    /// Returns the key of `LASTGOOD_MASTER_KEY`.
    #[must_use]
    pub fn current(&self) -> &MasterKey {
        &self.current
    }

    /// Returns the key of `LASTGOOD_PREVIOUS_MASTER_KEY`, if there is one.
    #[must_use]
    pub fn previous(&self) -> Option<&MasterKey> {
        self.previous.as_ref()
    }

    /// Returns the secret that was sealed for `id` under either key.
    pub fn open(&self, id: &str, sealed: &[u8]) -> Result<SecretString, SecretError> {
        let opened = self.current.open(id, sealed);
        match &self.previous {
            Some(previous) if opened.is_err() => previous.open(id, sealed),
            Some(_) | None => opened,
        }
    }
}

impl From<MasterKey> for MasterKeys {
    fn from(current: MasterKey) -> Self {
        Self::new(current, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> MasterKey {
        MasterKey::parse(&SecretString::from(STANDARD.encode([byte; 32]))).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_its_own_resource_and_key_only() {
        let url = SecretString::from("postgresql://u:marker@h/db");
        let sealed = key(1).seal("shop", &url).unwrap();
        assert!(!sealed.windows(6).any(|bytes| bytes == b"marker"));
        assert_eq!(
            key(1).open("shop", &sealed).unwrap().expose_secret(),
            url.expose_secret()
        );
        assert!(key(1).open("other", &sealed).is_err());
        assert!(key(2).open("shop", &sealed).is_err());
    }

    #[test]
    fn what_is_altered_or_cut_does_not_open() {
        let sealed = key(1)
            .seal("shop", &SecretString::from("postgresql://h/db"))
            .unwrap();
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(key(1).open("shop", &altered).is_err(), "byte {at}");
            assert!(key(1).open("shop", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_key_before_opens_what_it_sealed_and_a_third_one_opens_nothing() {
        let url = SecretString::from("redis://h");
        let sealed = [1, 2, 3].map(|byte| key(byte).seal("shop", &url).unwrap());
        let keys = MasterKeys::new(key(2), Some(key(1)));
        let opens = sealed.map(|sealed| keys.open("shop", &sealed).is_ok());
        assert_eq!(opens, [true, true, false]);
    }

    #[test]
    fn a_proof_is_of_its_own_key_alone_and_never_the_same_twice() {
        let proof = key(1).proof().unwrap();
        assert!(key(1).is_proven_by(&proof));
        assert!(!key(2).is_proven_by(&proof));
        assert_ne!(proof, key(1).proof().unwrap());
        // A sealed URL is not a proof, even if its text is that of one.
        let url = key(1)
            .seal("shop", &SecretString::from(PROOF_TEXT))
            .unwrap();
        assert!(!key(1).is_proven_by(&url));
    }
}
