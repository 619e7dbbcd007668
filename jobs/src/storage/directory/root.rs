//! A store's root, held open: what is made below it is made in the directory that was looked at, wherever its path leads by now.
//!
//! The root itself, and `objects` in it, are never made here: where they are missing, the store is not mounted.

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
use crate::storage::{
    Created,
    identity::{BYTES_MAX, Binding, IDENTITY},
    object_key::ObjectKey,
};

/// Customers' data: nobody else on this machine may look.
const PRIVATE_DIRECTORY: Mode = Mode::RWXU;
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A store's root and its `objects`, open.
pub(super) struct Root {
    handle: OwnedFd,
    objects: OwnedFd,
}

/// What becomes of the directories that a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    AreMade,
    AreAFault,
}

impl Root {
    /// Opens the store at a path, and refuses what is not the one that is meant.
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

    /// Returns whether two handles are of one directory.
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

    /// Begins a file that nobody sees.
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

    /// Returns the directories of a key, open: `objects` first, the one that holds the object last.
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

    /// Makes an object's name survive a power cut: its bytes are synced already, its directories may not be.
    pub(super) fn sync(&self, key: &ObjectKey) -> io::Result<()> {
        let opened = self.directories(key, Missing::AreAFault)?;
        for directory in opened.iter().rev().chain([&self.handle]) {
            fsync(directory)?;
        }
        Ok(())
    }
}

/// A file below `partial`, which is removed with this value unless it has become an object.
pub(super) struct Temporary {
    partial: OwnedFd,
    name: Option<String>,
    pub(super) file: File,
}

impl Temporary {
    /// Makes it the object of a key, whatever is there.
    pub(super) fn rename(mut self, root: &Root, key: &ObjectKey) -> io::Result<()> {
        let opened = root.directories(key, Missing::AreMade)?;
        if let (Some(name), Some(into)) = (&self.name, opened.last()) {
            renameat(&self.partial, &**name, into, key.path().1)?;
        }
        self.name = None;
        Ok(())
    }

    /// Makes it the object of a key, unless there is one. A link, unlike a rename, fails where the name is taken.
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
            // What stays, the janitor removes.
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

/// Opens a directory, and makes it first where it is missing.
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
