//! `lastgood key create --signing`, `key rotate --signing` and `key signing`: the keys that sign exports of the ledger.

use anyhow::Context as _;
use uuid::Uuid;

use super::escrow::master_keys;
use crate::{
    catalog::{Catalog, Succession},
    cli::output::{Output, instant},
    master,
    nouns::SigningKey,
    signing::Signer,
};

/// Makes a signing key. It has no escrow: whoever loses it makes the next one, and what it signed stays signed.
pub(super) async fn make(
    catalog: &Catalog,
    succession: Succession,
    output: &Output,
) -> anyhow::Result<()> {
    let master = master_keys()?;
    let to = master::sealer(catalog, &master).await?;
    let id = Uuid::new_v4();
    let sealed = Signer::generate()?.seal(id, &to)?;
    catalog.add_signing_key(&sealed, succession).await?;
    let mut keys = catalog.signing_keys().await?.into_iter();
    let made = keys.find(|key| key.id == id);
    let made = made.with_context(|| format!("signing key {id} is not on record"))?;
    output.show(&made, |made| {
        format!(
            "signing key {} signs exports of the ledger from now on; its fingerprint is {}\n\
             `lastgood key signing` prints its public half: give it to whoever verifies exports, through another channel than the exports",
            made.id, made.fingerprint
        )
    })
}

/// Prints the public halves, in a form that OpenSSL and `lastgood proof verify` read: what stands between the blocks is for people.
pub(super) async fn list(catalog: &Catalog, output: &Output) -> anyhow::Result<()> {
    let keys = catalog.signing_keys().await?;
    if keys.is_empty() {
        output.note("there is no signing key: make one with `lastgood key create --signing`");
    }
    output.show(&keys, |keys| keys.iter().map(block).collect())
}

fn block(key: &SigningKey) -> String {
    let state = match key.retired_at {
        None => format!("in use since {}", instant(key.created_at)),
        Some(at) => format!("signed from {} to {}", instant(key.created_at), instant(at)),
    };
    format!(
        "# signing key {}, {state}\n# fingerprint {}\n{}",
        key.id, key.fingerprint, key.public_key
    )
}
