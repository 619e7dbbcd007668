//! Reads the list of a dump's contents, which stands at the end of its archive.

use super::{
    CHUNK_BYTES,
    encryption::Unwrapping,
    fetch::{Fetched, fetch},
    open::{Wrong, compare_stored, explained, identity, in_archive},
};
use crate::{
    contents::{Contents, ContentsError, Recorded},
    error::{Damage, JobError, chain},
    key::{Identity, Keyring},
    manifest::Stored,
    storage::Storage,
};

/// Reads all stored bytes, checks them against the manifest, and returns the list at their end.
///
/// Holds twice the list in memory, whatever the size of the archive.
pub(crate) async fn contents(
    storage: &Storage,
    keyring: &dyn Keyring,
    stored: &Stored,
    recorded: &Recorded,
) -> Result<Contents, JobError> {
    let unreadable =
        |source: ContentsError| JobError::of_archive(&stored.key, Damage::Contents(chain(&source)));
    let wanted = recorded.frame_bytes().map_err(unreadable)?;
    let identity = identity(stored, keyring).await?;
    let source = fetch(storage, stored).await?;
    let expected = stored.clone();
    let work =
        tokio::task::spawn_blocking(move || end_of(source, identity.as_ref(), &expected, wanted));
    let end = in_archive(stored, work.await)?;
    Contents::from_frame(&end).map_err(unreadable)
}

fn end_of(
    mut source: Fetched,
    identity: Option<&Identity>,
    stored: &Stored,
    wanted: usize,
) -> Result<Vec<u8>, Wrong> {
    let read = read_end(&mut source, identity, wanted);
    let Ok(end) = read else {
        return Err(explained(source, read.map(drop))
            .err()
            .unwrap_or(Wrong::Unwanted));
    };
    compare_stored(source, stored)?;
    Ok(end)
}

fn read_end(
    source: &mut Fetched,
    identity: Option<&Identity>,
    wanted: usize,
) -> Result<Vec<u8>, Damage> {
    let head = source.peek().clone();
    let mut compressed = Unwrapping::begin(&head, source, identity)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut end = Vec::new();
    loop {
        let read = compressed.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        end.extend_from_slice(bytes);
        // Cut rarely, so that what stays is moved rarely.
        if end.len() > 2 * wanted + CHUNK_BYTES {
            end.drain(..end.len() - wanted);
        }
    }
    end.drain(..end.len().saturating_sub(wanted));
    Ok(end)
}
