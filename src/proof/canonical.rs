//! What is hashed of a proof? The same text as `lastgood.proof_as_hashed` makes: docs/reference/proofs.md specifies it.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::chain::Hash;

/// The fields that are not hashed.
const HASHES: [&str; 2] = ["hash", "previous_hash"];

/// Returns the hash of a proof that follows `previous`, from its fields as JSON.
pub(super) fn hash(previous: Hash, proof: &Value) -> Hash {
    let text = as_hashed(proof);
    let digest = Sha256::new().chain_update(previous.0).chain_update(text);
    Hash(digest.finalize().into())
}

fn as_hashed(proof: &Value) -> String {
    let mut text = String::new();
    match proof {
        Value::Object(fields) => {
            let hashed = fields
                .iter()
                .filter(|(name, _)| !HASHES.contains(&name.as_str()));
            write_object(hashed, &mut text);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            write(proof, &mut text);
        }
    }
    text
}

/// Writes a value as RFC 8785 prints it, for the numbers and names that the ledger has.
fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => write_object(fields.iter(), text),
        Value::Array(values) => {
            text.push('[');
            for (place, value) in values.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                write(value, text);
            }
            text.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
    }
}

fn write_object<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>, text: &mut String) {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    text.push('{');
    for (place, (name, value)) in fields.into_iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(&Value::from(name.as_str()).to_string());
        text.push(':');
        write(value, text);
    }
    text.push('}');
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use rstest::rstest;

    use super::*;

    /// The same cases as those of `lastgood.canonical_json`, in the integration tests.
    #[rstest]
    #[case(
        r#"{ "b": [1, 2.5, null], "aa": {}, "a": true }"#,
        r#"{"a":true,"aa":{},"b":[1,2.5,null]}"#
    )]
    #[case(
        r#"{"é":"\u0007\"\\\/\u007f\ud83d\ude00"}"#,
        "{\"é\":\"\\u0007\\\"\\\\/\u{7f}😀\"}"
    )]
    #[case(
        r#"{"hash":1,"previous_hash":2,"number":3,"x":{"hash":4}}"#,
        r#"{"number":3,"x":{"hash":4}}"#
    )]
    #[case(
        r#"{"s":{"load":0.001,"fetch":86400.123,"check":2}}"#,
        r#"{"s":{"check":2,"fetch":86400.123,"load":0.001}}"#
    )]
    fn a_proof_is_hashed_as_json_without_spaces_and_in_order(
        #[case] given: &str,
        #[case] hashed: &str,
    ) -> Result<()> {
        assert_eq!(as_hashed(&serde_json::from_str(given)?), hashed);
        Ok(())
    }
}
