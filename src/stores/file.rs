//! What does a stores file say?

use std::{collections::BTreeSet, path::Path};

use lastgood_jobs::storage::{
    Addressing, BucketAccess, Checksums, KeySource, StorageUrl, WriteOnce,
};
use serde::Deserialize;

use super::{
    Configured, StoresError, environment,
    keys::{Given, Grant, key_source},
};
use crate::{
    regular,
    secret::{Reference, SecretError},
};

/// The version of the file that this build reads.
const VERSION: u32 = 1;
/// The most bytes that are read, more than any list of stores needs.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    stores: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    storage: String,
    endpoint: Option<String>,
    region: Option<String>,
    path_style: Option<bool>,
    checksums: Option<bool>,
    write_once: Option<bool>,
    credentials: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    session_token: Option<String>,
}

/// Reads the stores that a file names, and resolves their keys.
pub(super) fn read(path: &Path) -> Result<Vec<Configured>, StoresError> {
    let entries = entries(path)?.into_iter();
    entries.map(|entry| configured(path, entry)).collect()
}

/// Returns the store that has this name in the file, or else this address, and resolves its keys and no others.
pub(super) fn find(
    path: &Path,
    name: &str,
    address: &StorageUrl,
) -> Result<Option<Configured>, StoresError> {
    let is_at = |entry: &Entry| {
        let url = entry.storage.parse::<StorageUrl>();
        url.is_ok_and(|url| url.is_same_place(address))
    };
    let mut entries = entries(path)?;
    let named = entries.iter().position(|entry| entry.name == name);
    let found = named.or_else(|| entries.iter().position(is_at));
    found
        .map(|index| configured(path, entries.swap_remove(index)))
        .transpose()
}

fn configured(path: &Path, entry: Entry) -> Result<Configured, StoresError> {
    let bad = |why: String| StoresError::File {
        path: path.display().to_string(),
        why: format!("store {:?}: {why}", entry.name),
    };
    let url = entry.storage.parse::<StorageUrl>();
    let url = url.map_err(|error| bad(error.to_string()))?;
    let endpoint = entry.endpoint.as_deref().map(endpoint).transpose();
    let endpoint = endpoint.map_err(bad)?;
    Ok(Configured {
        url,
        access: BucketAccess {
            endpoint,
            region: entry.region.clone(),
            addressing: match entry.path_style {
                None => Addressing::Auto,
                Some(true) => Addressing::Path,
                Some(false) => Addressing::VirtualHost,
            },
            checksums: match entry.checksums {
                None => Checksums::Auto,
                Some(true) => Checksums::Crc32c,
                Some(false) => Checksums::None,
            },
            write_once: match entry.write_once {
                None | Some(true) => WriteOnce::Condition,
                Some(false) => WriteOnce::Looked,
            },
            credentials: credentials(&entry)?,
            ..BucketAccess::default()
        },
        name: entry.name,
    })
}

/// Returns the names of the primary store and of its mirrors, without resolving their keys.
pub(super) fn names(path: &Path) -> Result<(String, Vec<String>), StoresError> {
    let mut names = entries(path)?.into_iter().map(|entry| entry.name);
    let primary = names.next().unwrap_or_default();
    Ok((primary, names.collect()))
}

/// Returns the address of a service as it was given, if it is a valid one.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let address = text.split_once("://").filter(|(scheme, rest)| {
        matches!(*scheme, "http" | "https")
            && !rest.is_empty()
            && !rest.contains(['@', '?', '#'])
            && !rest.contains(char::is_whitespace)
    });
    address
        .map(|_| text.to_owned())
        .ok_or_else(|| "an endpoint is https://host:port, without keys".to_owned())
}

fn entries(path: &Path) -> Result<Vec<Entry>, StoresError> {
    let named = || path.display().to_string();
    let read = || {
        use std::io::Read as _;
        let mut text = String::new();
        let not_a_file = || std::io::Error::other("it is not a regular file");
        let file = regular::open(path)?.ok_or_else(not_a_file)?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|source| StoresError::Read {
        path: named(),
        source,
    })?;
    let bad = |why: String| StoresError::File { path: named(), why };
    let file: File = serde_yaml::from_str(&text).map_err(|error| bad(without_values(&error)))?;
    if file.version != VERSION {
        return Err(bad(format!(
            "it has version {}, and this build reads version {VERSION}",
            file.version
        )));
    }
    if file.stores.is_empty() {
        return Err(bad("it names no store".to_owned()));
    }
    let mut known = BTreeSet::new();
    for entry in &file.stores {
        if !is_name(&entry.name) {
            return Err(bad(
                "a store's name has at most 64 lower-case letters, digits, _ and -".to_owned(),
            ));
        }
        if !known.insert(entry.name.as_str()) {
            return Err(bad(format!("two stores are called {:?}", entry.name)));
        }
    }
    Ok(file.stores)
}

/// Returns where a file is wrong and, if that is the fault, which field is unknown. The parser's own message could repeat a secret that
/// somebody put in the wrong place.
fn without_values(error: &serde_yaml::Error) -> String {
    let place = match error.location() {
        Some(at) => format!("line {} is", at.line()),
        None => "it is".to_owned(),
    };
    match unknown_field(&error.to_string()) {
        Some(field) => {
            format!(
                "{place} not as docs/how-to/stores.md describes it: there is no field `{field}`"
            )
        }
        None => format!("{place} not as docs/how-to/stores.md describes it"),
    }
}

/// Returns the field that the parser does not know, if it looks like a field's name: a key would contain digits or capitals.
fn unknown_field(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("unknown field `")?;
    let (field, _) = rest.split_once('`')?;
    let is_word = (1..=24).contains(&field.len())
        && field
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_word.then_some(field)
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| plain(byte) || matches!(byte, b'_' | b'-'))
        && name.bytes().next().is_some_and(plain)
}

/// Returns where the keys of a store come from: from the environment, if its entry says nothing.
fn credentials(entry: &Entry) -> Result<Option<KeySource>, StoresError> {
    let refused = |why: &str| StoresError::Environment {
        variable: "credentials, access_key_id and secret_access_key",
        why: format!("store {:?} {why}", entry.name),
    };
    let resolved = |what: &'static str, reference: &Option<String>| {
        let resolve = |text: &String| {
            let reference: Reference = text.parse()?;
            let now = reference.resolve_blocking()?;
            Ok(match reference {
                Reference::Env(_) => Given::fixed(now),
                Reference::File(path) => Given::in_file(now, &path),
            })
        };
        let given: Option<Result<Given, SecretError>> = reference.as_ref().map(resolve);
        given.transpose().map_err(|source| StoresError::Secret {
            what,
            store: entry.name.clone(),
            source,
        })
    };
    let grant = match entry.credentials.as_deref() {
        None => Grant::Keys,
        Some(word) => Grant::named(word).ok_or_else(|| {
            refused(&format!(
                "has unknown `credentials:`: use one of {}",
                Grant::NAMES.join(", ")
            ))
        })?,
    };
    let id = resolved("access_key_id", &entry.access_key_id)?;
    let key = resolved("secret_access_key", &entry.secret_access_key)?;
    let token = resolved("session_token", &entry.session_token)?;
    match (id, key) {
        (Some(_), _) | (_, Some(_)) if grant != Grant::Keys => Err(refused(
            "has both keys and `credentials:` that name another source: leave one out",
        )),
        (Some(id), Some(key)) => Ok(Some(key_source(id, key, token))),
        (None, None) if token.is_some() => Err(refused(
            "has session_token without the keys that it belongs to: give access_key_id and secret_access_key as well",
        )),
        (None, None) if entry.storage.starts_with("s3://") => {
            environment::granted(grant, &entry.name)
        }
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err(refused(
            "has only one of access_key_id and secret_access_key",
        )),
    }
}
