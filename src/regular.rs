//! How is a file opened that is read where nobody may wait? Only a regular one is: a pipe would wait for its writer, a device never ends.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::OFlags;

/// Opens a file to read it; `None`: it is a pipe, a device or a directory.
///
/// It is asked of what was opened, and that is opened without waiting. A file system that hangs still hangs this.
pub(crate) fn open(path: &Path) -> io::Result<Option<File>> {
    let no_wait = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(no_wait.bits().cast_signed())
        .open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}
