//! How is a bucket reached, according to the standard variables? Each secret has a `…_FILE` variable beside it.

use std::env;

use lastgood_jobs::storage::{Addressing, BucketAccess, KeySource, WriteOnce};
use secrecy::SecretString;

use super::{
    StoresError,
    keys::{Given, Grant, key_source},
    lent,
};
use crate::secret::read_secret_file;

/// The variable that says where the only store's keys come from.
const GRANT: &str = "LASTGOOD_S3_CREDENTIALS";

/// Returns how to reach a bucket, according to the environment.
pub(super) fn access(store: &str) -> Result<BucketAccess, StoresError> {
    Ok(BucketAccess {
        endpoint: first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])?
            .map(|endpoint| super::file::endpoint(&endpoint))
            .transpose()
            .map_err(|why| StoresError::Environment {
                variable: "AWS_ENDPOINT_URL_S3",
                why,
            })?,
        region: first(&["AWS_REGION", "AWS_DEFAULT_REGION"])?,
        addressing: addressing()?,
        write_once: write_once()?,
        credentials: granted(grant()?, store)?,
        ..BucketAccess::default()
    })
}

/// Returns the source of keys that are granted in this way.
pub(super) fn granted(grant: Grant, store: &str) -> Result<Option<KeySource>, StoresError> {
    let lent = |by| lent::lender(by).map(Some);
    match grant {
        Grant::Keys => keys(store),
        Grant::Chain => match keys(store)? {
            Some(keys) => Ok(Some(keys)),
            None => lent(None),
        },
        Grant::Lent(by) => lent(Some(by)),
    }
}

/// Returns the keys in the environment, or in the files that it names.
fn keys(store: &str) -> Result<Option<KeySource>, StoresError> {
    let id = secret("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID_FILE", store)?;
    let key = secret("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY_FILE", store)?;
    let token = secret("AWS_SESSION_TOKEN", "AWS_SESSION_TOKEN_FILE", store)?;
    match (id, key) {
        (Some(id), Some(key)) => Ok(Some(key_source(id, key, token))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(half("AWS_SECRET_ACCESS_KEY")),
        (None, Some(_)) => Err(half("AWS_ACCESS_KEY_ID")),
    }
}

fn grant() -> Result<Grant, StoresError> {
    let Some(word) = text(GRANT)? else {
        return Ok(Grant::Keys);
    };
    Grant::named(&word).ok_or_else(|| StoresError::Environment {
        variable: GRANT,
        why: format!("it must be one of {}", Grant::NAMES.join(", ")),
    })
}

fn half(missing: &'static str) -> StoresError {
    StoresError::Environment {
        variable: missing,
        why: "it is not set, but the other half of the key pair is".to_owned(),
    }
}

fn addressing() -> Result<Addressing, StoresError> {
    Ok(match truth("LASTGOOD_S3_PATH_STYLE")? {
        None => Addressing::Auto,
        Some(true) => Addressing::Path,
        Some(false) => Addressing::VirtualHost,
    })
}

fn write_once() -> Result<WriteOnce, StoresError> {
    Ok(match truth("LASTGOOD_S3_WRITE_ONCE")? {
        None | Some(true) => WriteOnce::Condition,
        Some(false) => WriteOnce::Looked,
    })
}

fn truth(variable: &'static str) -> Result<Option<bool>, StoresError> {
    match text(variable)?.as_deref() {
        None => Ok(None),
        Some("true" | "1") => Ok(Some(true)),
        Some("false" | "0") => Ok(Some(false)),
        Some(_) => Err(StoresError::Environment {
            variable,
            why: "it is neither true nor false".to_owned(),
        }),
    }
}

fn secret(
    variable: &'static str,
    file: &'static str,
    store: &str,
) -> Result<Option<Given>, StoresError> {
    if let Some(value) = text(variable)? {
        return Ok(Some(Given::fixed(SecretString::from(value))));
    }
    let Some(path) = text(file)? else {
        return Ok(None);
    };
    let now = read_secret_file(&path).map_err(|source| StoresError::Secret {
        what: file,
        store: store.to_owned(),
        source,
    })?;
    Ok(Some(Given::in_file(now, &path)))
}

fn first(variables: &[&'static str]) -> Result<Option<String>, StoresError> {
    for variable in variables {
        if let Some(value) = text(variable)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Returns a variable's text; an empty variable counts as not set.
pub(super) fn text(variable: &'static str) -> Result<Option<String>, StoresError> {
    match env::var(variable) {
        Ok(value) => Ok(Some(value.trim().to_owned()).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(StoresError::Environment {
            variable,
            why: "it is not UTF-8".to_owned(),
        }),
    }
}
