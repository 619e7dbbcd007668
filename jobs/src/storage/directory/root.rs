//! A store's root, held open: everything below it is made in the directory that was checked, wherever its path leads by
//! now.
//!
//! The root and its `objects` are never made here. If they are missing, the store is not mounted.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, fstat, fsync, linkat, mkdirat, openat, renameat, unlinkat},
    io::Errno,
};

use super::{OBJECTS, PARTIAL, Trouble};
use crate::{
    object_key::ObjectKey,
    storage::{
        Created,
        identity::{BYTES_MAX, Binding, IDENTITY},
    },
};

/// Customers' data: no other user of this machine may read it.
const PRIVATE_DIRECTORY: Mode = Mode::RWXU;
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The open root of a store, and its open `objects`.
pub(super) struct Root {
    handle: OwnedFd,
    objects: OwnedFd,
}

/// What to do about missing directories of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    AreMade,
    AreAFault,
}

impl Root {
    /// Opens the store at a path, and checks that it is the one that is meant.
    pub(super) fn open(path: &Path, meant: Option<&Binding>) -> Result<Self, Trouble> {
        let gone = |error: Errno| match error {
            Errno::NOENT | Errno::NOTDIR => {
                Trouble::Changed(format!("there is no store in {} any more", path.display()))
            }
            other => Trouble::Io(other.into()),
        };
        let handle = directory(CWD, path).map_err(gone)?;
        let objects = directory(&handle, OBJECTS).map_err(gone)?;
        let root = Self { handle, objects };
        if let Some(meant) = meant {
            let identity = root.identity()?;
            meant
                .compare(identity.as_deref())
                .map_err(|why| Trouble::Changed(format!("{}: {why}", path.display())))?;
        }
        Ok(root)
    }

    /// Returns whether two handles refer to the same directory.
    pub(super) fn is_same(&self, other: &Self) -> io::Result<bool> {
        let (ours, theirs) = (fstat(&self.handle)?, fstat(&other.handle)?);
        Ok((ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino))
    }

    fn identity(&self) -> io::Result<Option<Vec<u8>>> {
        let opened = openat(
            &self.objects,
            IDENTITY,
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
            Mode::empty(),
        );
        let file = match opened {
            Err(Errno::NOENT) => return Ok(None),
            opened => File::from(opened?),
        };
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Begins a file that is not visible as an object.
    pub(super) fn temporary(&self, prefix: &str) -> io::Result<Temporary> {
        let partial = made(&self.handle, PARTIAL)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        loop {
            let random = uuid::Uuid::new_v4().simple().to_string();
            let name = format!("{prefix}.{}", random.get(..8).unwrap_or(&random));
            match openat(&partial, &*name, flags, PRIVATE_FILE) {
                Err(Errno::EXIST) => {}
                opened => {
                    let file = File::from(opened?);
                    let name = Some(name);
                    return Ok(Temporary {
                        partial,
                        name,
                        file,
                    });
                }
            }
        }
    }

    /// Returns the open directories of a key, from `objects` to the one that holds the object.
    fn directories(&self, key: &ObjectKey, missing: Missing) -> io::Result<Vec<OwnedFd>> {
        let mut opened = Vec::new();
        let mut above = self.objects.try_clone()?;
        for name in key.path().0 {
            let below = match missing {
                Missing::AreMade => made(&above, name)?,
                Missing::AreAFault => directory(&above, name)?,
            };
            opened.push(std::mem::replace(&mut above, below));
        }
        opened.push(above);
        Ok(opened)
    }

    /// Makes an object's name survive a power cut. Its bytes are already synced, but its directories may not be.
    pub(super) fn sync(&self, key: &ObjectKey) -> io::Result<()> {
        let opened = self.directories(key, Missing::AreAFault)?;
        for directory in opened.iter().rev().chain([&self.handle]) {
            fsync(directory)?;
        }
        Ok(())
    }
}

/// A file below `partial`, which is removed on drop unless it has become an object.
pub(super) struct Temporary {
    partial: OwnedFd,
    name: Option<String>,
    pub(super) file: File,
}

impl Temporary {
    /// Makes the file the object of a key, replacing an existing one.
    pub(super) fn rename(mut self, root: &Root, key: &ObjectKey) -> io::Result<()> {
        let opened = root.directories(key, Missing::AreMade)?;
        if let (Some(name), Some(into)) = (&self.name, opened.last()) {
            renameat(&self.partial, &**name, into, key.path().1)?;
        }
        self.name = None;
        Ok(())
    }

    /// Makes the file the object of a key unless there is one already. Unlike a rename, a link fails if the name is
    /// taken.
    pub(super) fn link(self, root: &Root, key: &ObjectKey) -> io::Result<Created> {
        let opened = root.directories(key, Missing::AreMade)?;
        let (Some(name), Some(into)) = (&self.name, opened.last()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        match linkat(&self.partial, &**name, into, key.path().1, AtFlags::empty()) {
            Ok(()) => Ok(Created::New),
            Err(Errno::EXIST) => Ok(Created::AlreadyExists),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            // If this fails, the janitor removes the file.
            let _gone_or_left = unlinkat(&self.partial, &*name, AtFlags::empty());
        }
    }
}

fn directory(
    at: impl std::os::fd::AsFd,
    name: impl rustix::path::Arg,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// Opens a directory, making it if it is missing.
fn made(at: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    match directory(at, name) {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    match mkdirat(at, name, PRIVATE_DIRECTORY) {
        Ok(()) | Err(Errno::EXIST) => directory(at, name),
        Err(error) => Err(error),
    }
}
