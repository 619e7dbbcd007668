//! What may a restore point be used for? Code that chooses among points matches on [`Standing`], so that it cannot forget suspect ones.
//!
//! SQL chooses from the views `lastgood.trusted_points` and `lastgood.usable_points`, which follow the same rules.

use chrono::{DateTime, Utc};

/// What a restore point may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the default for restores, it ends exposure, and older points may expire because of it.
    Trusted,
    /// It was probably not made from the customer's data. It is copied, read back and kept for as long as was promised, but counts
    /// towards no promise. A restore must name it and ask for a suspect point explicitly.
    Suspect,
    /// It was found damaged. A restore must name it and ask for a damaged point explicitly.
    Quarantined,
    /// Retention has let it go. It is no longer used for anything.
    Expired,
}

/// When a point was marked as less than trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// Since when it has been suspect.
    pub suspected_at: Option<DateTime<Utc>>,
    /// Since when it has been known to be damaged.
    pub quarantined_at: Option<DateTime<Utc>>,
    /// Since when it has been expired.
    pub expired_at: Option<DateTime<Utc>>,
}

impl Standing {
    /// Returns the standing of a point with these marks: the worst mark counts.
    #[must_use]
    pub fn of(marks: Marks) -> Self {
        match (marks.expired_at, marks.quarantined_at, marks.suspected_at) {
            (Some(_), _, _) => Self::Expired,
            (None, Some(_), _) => Self::Quarantined,
            (None, None, Some(_)) => Self::Suspect,
            (None, None, None) => Self::Trusted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use anyhow::Result;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::ordinary(false, false, false, Standing::Trusted)]
    #[case::suspect(true, false, false, Standing::Suspect)]
    #[case::damaged_too(true, true, false, Standing::Quarantined)]
    #[case::let_go(true, true, true, Standing::Expired)]
    fn the_worst_mark_counts(
        #[case] suspect: bool,
        #[case] damaged: bool,
        #[case] let_go: bool,
        #[case] expected: Standing,
    ) {
        let at = |is: bool| is.then_some(DateTime::UNIX_EPOCH);
        let marks = Marks {
            suspected_at: at(suspect),
            quarantined_at: at(damaged),
            expired_at: at(let_go),
        };
        assert_eq!(Standing::of(marks), expected);
    }

    /// A statement that picks points by their columns instead of from the views has not decided what to do with suspect ones.
    #[test]
    fn every_statement_chooses_from_the_trusted_or_from_the_usable_points() -> Result<()> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut by_columns = Vec::new();
        for file in files_below(&source)? {
            let text = std::fs::read_to_string(&file)?;
            let words: Vec<&str> = text.split_whitespace().collect();
            let chooses = words.windows(6).any(|words| {
                let [column, is, null, and, other, also] = words else {
                    return false;
                };
                column.ends_with("quarantined_at")
                    && (*is, *null, *and, *also) == ("is", "null", "and", "is")
                    && other.ends_with("expired_at")
            });
            // These statements act on points that were named, or on wrong dates. They do not choose among points.
            let names_one = [
                "queue/condemn.sql",
                "catalog/confirm.sql",
                "catalog/listings/lose.sql",
                "producer/future_points.sql",
            ];
            if chooses && !names_one.iter().any(|name| file.ends_with(name)) {
                by_columns.push(file);
            }
        }
        assert!(by_columns.is_empty(), "{by_columns:?}");
        Ok(())
    }

    fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                files.extend(files_below(&path)?);
            } else if path.extension().is_some_and(|it| it == "sql" || it == "rs") {
                files.push(path);
            }
        }
        Ok(files)
    }
}
