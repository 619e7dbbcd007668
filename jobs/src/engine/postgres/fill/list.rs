//! The list of what to restore, in the archive's order.

use std::{collections::BTreeSet, io::Write as _, path::Path};

use tempfile::NamedTempFile;

use crate::format::pg_dump::Entry;

/// Writes the list, without what is left out.
pub(super) fn list_file(
    entries: &[Entry],
    left_out: &BTreeSet<u32>,
    work_dir: &Path,
) -> std::io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix("list.")
        .tempfile_in(work_dir)?;
    let mut lines = std::io::BufWriter::new(&mut file);
    for entry in entries.iter().filter(|entry| !left_out.contains(&entry.id)) {
        writeln!(lines, "{};", entry.id)?;
    }
    lines.flush()?;
    drop(lines);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_not_in_the_list() -> anyhow::Result<()> {
        let entries = [7, 8, 11].map(|id| Entry {
            id,
            ..Entry::default()
        });
        let directory = tempfile::tempdir()?;
        let file = list_file(&entries, &BTreeSet::from([8]), directory.path())?;
        assert_eq!(std::fs::read_to_string(file.path())?, "7;\n11;\n");
        Ok(())
    }
}
