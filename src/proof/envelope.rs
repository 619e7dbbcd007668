//! How is an export of the ledger signed? A DSSE envelope: a payload, its type, and Ed25519 signatures over both.
//!
//! <https://github.com/secure-systems-lab/dsse> specifies it. It needs nothing of lastgood to be verified.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::chain::Hash;

/// The type of the payload: an in-toto statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// What precedes an Ed25519 public key in its DER, a `SubjectPublicKeyInfo` (RFC 8410).
const DER_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const PEM_END: &str = "-----END PUBLIC KEY-----";

/// The public half of a signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

/// A signed payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// What the payload is.
    pub payload_type: String,
    /// The payload, in base64.
    pub payload: String,
    /// Its signatures.
    pub signatures: Vec<Signature>,
}

/// One signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Which key made it: a hint, which proves nothing.
    #[serde(default)]
    pub keyid: String,
    /// The signature, in base64.
    pub sig: String,
}

/// Why an envelope is not to be believed.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// It is not JSON of that shape.
    #[error(
        "this is no signed export: it has to be a DSSE envelope, a JSON object with `payloadType`, `payload` and `signatures`"
    )]
    NotAnEnvelope(#[source] serde_json::Error),
    /// The payload is of another type.
    #[error("the payload's type is {0:?}, not {PAYLOAD_TYPE:?}: it is no export of the ledger")]
    AnotherType(String),
    /// A part is not base64.
    #[error("the {0} is not base64: the file was changed")]
    NotBase64(&'static str),
    /// It has no signature of these keys.
    #[error(
        "none of the keys given has signed this: their fingerprints are {given}, and it names {named}"
    )]
    AnotherKey {
        /// The fingerprints of the keys that were given.
        given: String,
        /// The fingerprints that the envelope names.
        named: String,
    },
    /// A signature of one of these keys does not fit.
    #[error("the signature of key {0} does not fit: the export was changed after it was signed")]
    Changed(String),
    /// The file has no public key.
    #[error("there is no Ed25519 public key in PEM: save what `lastgood key signing` prints")]
    NoKey,
}

impl PublicKey {
    /// Returns the keys of a file: one or more PEM blocks, with any text around them.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, EnvelopeError> {
        let blocks = text.split(PEM_BEGIN).skip(1);
        let keys: Option<Vec<_>> = blocks
            .map(|block| {
                let base64: String = block.split(PEM_END).next()?.split_whitespace().collect();
                let der = STANDARD.decode(base64).ok()?;
                let key = der.strip_prefix(&DER_PREFIX)?;
                Some(Self(key.try_into().ok()?))
            })
            .collect();
        keys.filter(|keys| !keys.is_empty())
            .ok_or(EnvelopeError::NoKey)
    }

    fn to_der(self) -> Vec<u8> {
        [&DER_PREFIX[..], &self.0].concat()
    }

    /// Returns the key as PEM, which OpenSSL reads.
    #[must_use]
    pub fn to_pem(self) -> String {
        format!(
            "{PEM_BEGIN}\n{}\n{PEM_END}\n",
            STANDARD.encode(self.to_der())
        )
    }

    /// Returns the SHA-256 of the key's DER, in lowercase hex.
    #[must_use]
    pub fn fingerprint(self) -> String {
        Hash(Sha256::digest(self.to_der()).into()).to_string()
    }
}

impl Envelope {
    /// Returns the payload, signed.
    #[must_use]
    pub fn sign(payload: &[u8], pair: &Ed25519KeyPair, key: PublicKey) -> Self {
        let signature = pair.sign(&signed(PAYLOAD_TYPE, payload));
        Self {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: STANDARD.encode(payload),
            signatures: vec![Signature {
                keyid: key.fingerprint(),
                sig: STANDARD.encode(signature),
            }],
        }
    }

    /// Parses an envelope. Nothing of it is believed yet.
    pub fn parse(text: &[u8]) -> Result<Self, EnvelopeError> {
        serde_json::from_slice(text).map_err(EnvelopeError::NotAnEnvelope)
    }

    /// Returns the payload and the key that signed it, if one of `keys` did.
    pub fn verify(&self, keys: &[PublicKey]) -> Result<(Vec<u8>, PublicKey), EnvelopeError> {
        if self.payload_type != PAYLOAD_TYPE {
            let named = self.payload_type.chars().take(100).collect();
            return Err(EnvelopeError::AnotherType(named));
        }
        let decode = |text: &str, what| {
            STANDARD
                .decode(text)
                .map_err(|_| EnvelopeError::NotBase64(what))
        };
        let payload = decode(&self.payload, "payload")?;
        let message = signed(PAYLOAD_TYPE, &payload);
        let mut unfit = None;
        for signature in &self.signatures {
            let bytes = decode(&signature.sig, "signature")?;
            for key in keys {
                let public = UnparsedPublicKey::new(&ED25519, key.0);
                if public.verify(&message, &bytes).is_ok() {
                    return Ok((payload, *key));
                }
                if signature.keyid == key.fingerprint() {
                    unfit = Some(EnvelopeError::Changed(key.fingerprint()));
                }
            }
        }
        Err(unfit.unwrap_or_else(|| self.not_signed_by(keys)))
    }

    fn not_signed_by(&self, keys: &[PublicKey]) -> EnvelopeError {
        let given: Vec<_> = keys.iter().map(|key| key.fingerprint()).collect();
        let named = self.signatures.iter().take(10);
        let named: Vec<String> = named
            .map(|signature| signature.keyid.chars().take(64).collect())
            .collect();
        EnvelopeError::AnotherKey {
            given: given.join(", "),
            named: if named.is_empty() {
                "none".to_owned()
            } else {
                named.join(", ")
            },
        }
    }
}

/// Returns what is signed: DSSE's pre-authentication encoding.
fn signed(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, Result};
    use ring::signature::KeyPair as _;
    use rstest::rstest;

    use super::*;

    fn pair(seed: u8) -> Result<(Ed25519KeyPair, PublicKey)> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32])
            .ok()
            .context("no key")?;
        let public = PublicKey(pair.public_key().as_ref().try_into()?);
        Ok((pair, public))
    }

    #[test]
    fn what_is_signed_is_what_dsse_specifies() {
        // The example of the specification.
        let text = signed("http://example.com/HelloWorld", b"hello world");
        assert_eq!(
            text,
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[rstest]
    #[case::payload(|it: &mut Envelope| it.payload = STANDARD.encode(r#"{"a":2}"#), "does not fit")]
    #[case::payload_that_is_none(|it: &mut Envelope| it.payload.push('?'), "not base64")]
    #[case::payload_type(|it: &mut Envelope| it.payload_type = "text/plain".to_owned(), "text/plain")]
    #[case::signature(|it: &mut Envelope| it.signatures[0].sig = STANDARD.encode([0; 64]), "does not fit")]
    #[case::no_signature(|it: &mut Envelope| it.signatures.clear(), "names none")]
    fn what_was_changed_is_refused(
        #[case] change: fn(&mut Envelope),
        #[case] says: &str,
    ) -> Result<()> {
        let (pair, key) = pair(1)?;
        let mut envelope = Envelope::sign(br#"{"a":1}"#, &pair, key);
        assert_eq!(envelope.verify(&[key])?, (br#"{"a":1}"#.to_vec(), key));
        change(&mut envelope);
        let error = envelope.verify(&[key]).err().context("believed")?;
        assert!(error.to_string().contains(says), "{error}");
        Ok(())
    }

    #[test]
    fn another_key_is_refused_and_a_key_among_several_is_found() -> Result<()> {
        let ((pair, key), (_, other)) = (pair(1)?, self::pair(2)?);
        let mut envelope = Envelope::sign(b"{}", &pair, key);
        let error = envelope.verify(&[other]).err().context("believed")?;
        assert!(error.to_string().contains(&other.fingerprint()), "{error}");
        let file = format!("# old\n{}\n# new\n{}", other.to_pem(), key.to_pem());
        let keys = PublicKey::parse_all(&file)?;
        assert_eq!(keys, [other, key]);
        assert_eq!(envelope.verify(&keys)?.1, key);
        // The key's name is a hint.
        envelope.signatures[0].keyid.clear();
        assert_eq!(envelope.verify(&keys)?.1, key);
        assert!(PublicKey::parse_all("nothing").is_err());
        Ok(())
    }
}
