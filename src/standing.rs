//! What may a restore point be used for? Whoever chooses among points matches on it, so that nobody forgets the suspect ones.
//!
//! SQL chooses from `lastgood.trusted_points` or from `lastgood.usable_points`, which say the same.

use chrono::{DateTime, Utc};

/// What a restore point is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is restored from unasked, ends exposure, and may be the reason that an older one goes.
    Trusted,
    /// It was made from what was probably not the customer's data: restored from by name and with a word, copied, read back and kept
    /// for as long as was promised, and counted on for nothing.
    Suspect,
    /// It was found damaged: tried by name and with a word.
    Quarantined,
    /// Retention has let it go: nothing is done with it any more.
    Expired,
}

/// When a point was found to be less than trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// Since when it is suspect.
    pub suspected_at: Option<DateTime<Utc>>,
    /// Since when it is known to be damaged.
    pub quarantined_at: Option<DateTime<Utc>>,
    /// Since when it has been let go.
    pub expired_at: Option<DateTime<Utc>>,
}

impl Standing {
    /// Returns what a point with these marks is good for.
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

    /// Known bad quality that is not asked about: a statement that picks points by their columns decides nothing about suspects.
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
            // What is about points that somebody named, or about wrong dates, chooses none.
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
