//! What is below a directory of a store? A symbolic link is followed, as whoever reads or writes an object follows it.
//!
//! `OpenDAL`'s own lister leaves out what is behind a link, what it may not read, and a directory whose name is not UTF-8.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Directory, OBJECTS, blocking};
use crate::error::JobError;

/// A file or a directory in a store.
#[derive(Debug, Clone)]
pub(in crate::storage) struct Entry {
    /// Its path below the store's objects.
    path: PathBuf,
    pub(in crate::storage) is_directory: bool,
}

impl Entry {
    /// Returns the directory of a key that ends with `/`.
    pub(in crate::storage) fn directory(key: &str) -> Self {
        Self {
            path: key.into(),
            is_directory: true,
        }
    }

    /// Returns its key. What is not UTF-8 in it is replaced: no object has such a key, so whoever asks for it is told.
    pub(in crate::storage) fn key(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Returns its name.
    pub(in crate::storage) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

impl Directory {
    /// Returns what lies directly in a directory. One that is not there is empty.
    ///
    /// A link that leads nowhere is an error: what is behind it may only not be mounted.
    pub(in crate::storage) async fn entries(&self, of: &Entry) -> Result<Vec<Entry>, JobError> {
        let (objects, path) = (self.root.join(OBJECTS), of.path.clone());
        blocking("list", &of.key(), move || Ok(read(&objects, &path)?)).await
    }
}

fn read(objects: &Path, path: &Path) -> io::Result<Vec<Entry>> {
    let found = match std::fs::read_dir(objects.join(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The directory itself, or one above it.
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

/// Returns whether a link leads to a directory: to one that it lies in, each would be listed again and again.
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
            "the symbolic link {link} leads to a directory that it lies in: remove it"
        )));
    }
    Ok(std::fs::metadata(target)?.is_dir())
}

fn leads_nowhere(link: &Path) -> io::Error {
    let link = link.display();
    io::Error::other(format!(
        "the symbolic link {link} leads nowhere: mount what it leads to, or remove it"
    ))
}
