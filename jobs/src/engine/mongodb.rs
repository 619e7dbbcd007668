//! `MongoDB`: dumps in the archive format of `mongodump`, which `mongorestore --archive` reads too.

#[cfg_attr(
    not(any(test, fuzzing)),
    expect(
        dead_code,
        unused_imports,
        reason = "the dump and the restore that use it come next"
    )
)]
pub(crate) mod archive_format;
