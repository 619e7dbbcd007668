//! How is a file opened without waiting? Only regular files are: a pipe would wait for its writer, and a device never ends.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::OFlags;

/// Opens a file for reading, or returns `None` if it is a pipe, a device or a directory.
///
/// The open itself does not wait, and the check is made on the open file. A file system that hangs still makes this hang.
pub(crate) fn open(path: &Path) -> io::Result<Option<File>> {
    let no_wait = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(no_wait.bits().cast_signed())
        .open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}
