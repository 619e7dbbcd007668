//! What does a directory of a store contain? Symbolic links are followed, as they are when an object is read or
//! written.
//!
//! `OpenDAL`'s own lister leaves out whatever is behind a link, whatever it may not read, and directories whose names
//! are not UTF-8.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Directory, OBJECTS, blocking};
use crate::error::JobError;

/// A file or a directory in a store.
#[derive(Debug, Clone)]
pub(in crate::storage) struct Entry {
    /// The path below the store's objects.
    path: PathBuf,
    pub(in crate::storage) is_directory: bool,
}

impl Entry {
    /// Returns the directory that a key ending with `/` names.
    pub(in crate::storage) fn directory(key: &str) -> Self {
        Self {
            path: key.into(),
            is_directory: true,
        }
    }

    /// Returns the entry's key. Bytes that are not UTF-8 are replaced: no object has such a key, so a request for it
    /// fails.
    pub(in crate::storage) fn key(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    pub(in crate::storage) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

impl Directory {
    /// Returns the direct contents of a directory. A missing directory is empty.
    ///
    /// A link that leads nowhere is an error, because its target may merely not be mounted now.
    pub(in crate::storage) async fn entries(&self, of: &Entry) -> Result<Vec<Entry>, JobError> {
        let (objects, path) = (self.root.join(OBJECTS), of.path.clone());
        blocking("list", &of.key(), move || Ok(read(&objects, &path)?)).await
    }
}

fn read(objects: &Path, path: &Path) -> io::Result<Vec<Entry>> {
    let found = match std::fs::read_dir(objects.join(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The directory itself may be a broken link, or one above it.
            let mut above = path.ancestors();
            return match above.find(|above| objects.join(above).is_symlink()) {
                Some(link) => Err(leads_nowhere(link)),
                None => Ok(Vec::new()),
            };
        }
        found => found?,
    };
    let mut entries = Vec::new();
    for entry in found {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, path.join(entry.file_name()));
        let is_directory = if kind.is_symlink() {
            follow(&entry.path(), &path)?
        } else {
            kind.is_dir()
        };
        entries.push(Entry { path, is_directory });
    }
    Ok(entries)
}

/// Returns whether a link leads to a directory. A link to a directory that contains it is refused, because it would be
/// listed endlessly.
fn follow(link: &Path, path: &Path) -> io::Result<bool> {
    let target = match std::fs::canonicalize(link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(leads_nowhere(path)),
        target => target?,
    };
    if let Some(lies_in) = link.parent()
        && std::fs::canonicalize(lies_in)?.starts_with(&target)
    {
        let link = path.display();
        return Err(io::Error::other(format!(
            "the symbolic link {link} leads to a directory that contains it: remove it"
        )));
    }
    Ok(std::fs::metadata(target)?.is_dir())
}

fn leads_nowhere(link: &Path) -> io::Error {
    let link = link.display();
    io::Error::other(format!(
        "the symbolic link {link} leads nowhere: mount its target, or remove the link"
    ))
}
