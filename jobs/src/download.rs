//! Downloads an archive to a file as it is stored, and checks it against its manifest.

use std::{
    io,
    path::{Path, PathBuf},
};

use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::{
    archive::{self, ARCHIVE},
    error::{Damage, JobError},
    manifest::{Manifest, Stored},
    sought::Sought,
    storage::Storage,
};

/// Writes the archive of a restore point to `to`, and returns its manifest.
///
/// The file grows as `{to}.partial`, readable by this user alone, and takes its name once its size and BLAKE3 have been
/// checked. A file that already exists under either name is not touched: that is [`JobError::Io`]. A failure leaves
/// nothing behind.
pub async fn download(
    sought: &Sought<'_>,
    to: &Path,
    storage: &Storage,
) -> Result<Manifest, JobError> {
    let manifest = sought.read(storage).await?;
    let stored = &manifest.archive;
    archive::is_there(storage, &stored.key, stored.size_bytes).await?;
    refuse_existing(to)?;
    let partial = Partial::create(to).await?;
    let written = write(&partial.path, stored, storage).await;
    written?;
    // Unlike a rename, a link fails if the name has been taken meanwhile.
    std::fs::hard_link(&partial.path, to).map_err(failed("give the file its final name"))?;
    Ok(manifest)
}

async fn write(path: &Path, stored: &Stored, storage: &Storage) -> Result<(), JobError> {
    let file = std::fs::File::options().append(true).open(path);
    let mut file = tokio::fs::File::from_std(file.map_err(failed("open the file"))?);
    let mut bytes = storage.read(&stored.key).await?;
    let (mut hasher, mut size_bytes) = (blake3::Hasher::new(), 0);
    while let Some(chunk) = bytes.next().await {
        let chunk = chunk?;
        hasher.update(&chunk);
        size_bytes += chunk.len() as u64;
        file.write_all(&chunk)
            .await
            .map_err(failed("write to the file"))?;
    }
    file.sync_all().await.map_err(failed("sync the file"))?;
    let damaged = |source| JobError::Damaged {
        key: stored.key.to_string(),
        source,
    };
    if size_bytes != stored.size_bytes {
        return Err(damaged(Damage::Size {
            what: ARCHIVE,
            expected: stored.size_bytes,
            found: size_bytes,
        }));
    }
    if hasher.finalize().to_hex().as_str() != stored.blake3 {
        return Err(damaged(Damage::Hash { what: ARCHIVE }));
    }
    Ok(())
}

fn refuse_existing(to: &Path) -> Result<(), JobError> {
    match to.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("check whether the file exists")(error)),
        Ok(_) => Err(failed("write the file")(
            io::ErrorKind::AlreadyExists.into(),
        )),
    }
}

/// The growing file. Dropping this value removes it.
struct Partial {
    path: PathBuf,
}

impl Partial {
    async fn create(to: &Path) -> Result<Self, JobError> {
        let mut name = to.as_os_str().to_owned();
        name.push(".partial");
        let path = PathBuf::from(name);
        let mut options = tokio::fs::File::options();
        options.write(true).create_new(true).mode(0o600);
        let created = options.open(&path).await;
        created.map_err(|error| {
            // It belongs to a download that was killed, or to one that is under way.
            let is_there = error.kind() == io::ErrorKind::AlreadyExists;
            failed(if is_there {
                "create the file's .partial: if no other download is under way, remove the existing one"
            } else {
                "create the file's .partial"
            })(error)
        })?;
        Ok(Self { path })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove a partial download");
        }
    }
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> JobError {
    move |source| JobError::Io { doing, source }
}
