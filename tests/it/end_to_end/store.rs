//! The files in a store.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use lastgood::catalog::PointRow;
use lastgood_jobs::storage::IDENTITY;

/// Returns the path of every file below `root`, relative to it, except the identity object.
pub(super) fn files(root: &Path) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if !path.ends_with(IDENTITY) {
                files.insert(path.strip_prefix(root)?.to_string_lossy().into_owned());
            }
        }
    }
    Ok(files)
}

/// Returns what a store contains if these are all its restore points: a manifest and an archive for each, and nothing else.
pub(super) fn files_of(points: &[PointRow]) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for point in points {
        files.insert(format!("objects/{}", point.manifest_key));
        files.insert(format!("objects/{}", archive_key(point)?));
    }
    Ok(files)
}

/// Returns the path of a point's archive below `root`.
pub(super) fn archive(root: &Path, point: &PointRow) -> Result<PathBuf> {
    Ok(root.join("objects").join(archive_key(point)?))
}

fn archive_key(point: &PointRow) -> Result<&str> {
    point
        .manifest
        .pointer("/archive/key")
        .and_then(serde_json::Value::as_str)
        .context("the manifest names no archive")
}
