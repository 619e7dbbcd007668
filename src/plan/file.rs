//! The plans file of a running service. Whatever happens to the file, the last good plans stay in force.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{blocking::Calls, regular};

use super::{PlanProblems, Plans, doubts};

/// The plans in force, and the file that they come from.
///
/// Compares the file's content, not its time stamp, which can be wrong; an editor may also replace the file instead of writing to it.
/// Every method that reads blocks on the file system, except [`PlansFile::reload_within`].
#[derive(Debug)]
pub struct PlansFile {
    path: PathBuf,
    plans: Plans,
    source: Source,
    /// The file's content when it was last read; `None` if it could not be read.
    seen: Option<Vec<u8>>,
    fault: Option<PlansFileError>,
}

/// Where the plans in force come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Source {
    /// The file, in its present or its last good state.
    File,
    /// The plans that are compiled in, because the file has not been good since the process started.
    BuiltIn,
}

/// What reading the file again did to the plans in force.
#[derive(Debug)]
pub enum Reload<'a> {
    /// Nothing changed. A fault that was reported before may still be there.
    Unchanged,
    /// Other plans are in force, or the built-in plans gave way to the file's.
    Changed,
    /// A fault is gone, and the file states the plans that stayed in force throughout.
    Mended,
    /// The file has a new fault, and the plans in force stay. A fault is reported only once.
    Kept(&'a PlansFileError),
}

/// What is wrong with a plans file.
#[derive(Debug, thiserror::Error)]
pub enum PlansFileError {
    /// It could not be read.
    #[error("cannot read the plans file {}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system reports.
        why: io::Error,
    },
    /// Its content does not state plans.
    #[error(transparent)]
    Problems(PlanProblems),
    /// Its last line does not end with a newline.
    #[error("{}: the last line does not end with a newline, so the file may be half-written: add one", path.display())]
    Unfinished {
        /// The file.
        path: PathBuf,
    },
}

impl PlansFile {
    /// Returns the plans of a file, or the built-in plans if it is missing or broken; [`Self::fault`] says why.
    #[must_use]
    pub fn load(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let mut file = Self {
            path,
            plans: Plans::built_in(),
            source: Source::BuiltIn,
            seen: None,
            fault: None,
        };
        match content(&file.path) {
            Err(fault) => file.fault = Some(fault),
            Ok(bytes) => {
                match parsed(&file.path, &bytes) {
                    Err(fault) => file.fault = Some(fault),
                    Ok(plans) => (file.plans, file.source) = (plans, Source::File),
                }
                file.seen = Some(bytes);
            }
        }
        file
    }

    /// Reads the file again and puts its plans in force if they are good. Cheap if the file has not changed.
    ///
    /// Content without a final newline is never put in force here. A half-finished write may cut a number short, and a retention of `3`
    /// instead of `30` would be a valid plan that deletes restore points.
    pub fn reload(&mut self) -> Reload<'_> {
        let content = content(&self.path);
        self.reload_from(content)
    }

    /// Like [`Self::reload`], but without blocking the runtime: a file system that does not answer in time counts as a fault of the file.
    pub async fn reload_within(&mut self, within: Duration) -> Reload<'_> {
        /// At most one read may hang: a second one would hang with it.
        static READS: Calls = Calls::at_most(1);
        let path = self.path.clone();
        let read = READS.answered(within, move || content(&path)).await;
        let read = read.unwrap_or_else(|| {
            Err(PlansFileError::Unreadable {
                path: self.path.clone(),
                why: io::Error::new(io::ErrorKind::TimedOut, "its file system does not answer"),
            })
        });
        self.reload_from(read)
    }

    fn reload_from(&mut self, content: Result<Vec<u8>, PlansFileError>) -> Reload<'_> {
        let bytes = match content {
            Ok(bytes) => bytes,
            Err(fault) => return self.keep(None, fault),
        };
        if self.seen.as_ref() == Some(&bytes) {
            return Reload::Unchanged;
        }
        match finished(&self.path, &bytes).and_then(|()| parsed(&self.path, &bytes)) {
            Ok(plans) => self.adopt(bytes, plans),
            Err(fault) => self.keep(Some(bytes), fault),
        }
    }

    /// Returns the plans in force.
    #[must_use]
    pub fn plans(&self) -> &Plans {
        &self.plans
    }

    /// Returns where the plans in force come from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// Returns what was wrong with the file when it was last read, or `None` if it was good.
    #[must_use]
    pub fn fault(&self) -> Option<&PlansFileError> {
        self.fault.as_ref()
    }

    /// Returns whether the plans in force are the file's last good ones because its present content cannot be used.
    ///
    /// Returns false while the built-in plans are in force; see [`Self::source`].
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.source == Source::File && self.fault.is_some()
    }

    fn adopt(&mut self, bytes: Vec<u8>, plans: Plans) -> Reload<'_> {
        let changed = self.source == Source::BuiltIn || self.plans != plans;
        let mended = self.fault.is_some();
        *self = Self {
            path: std::mem::take(&mut self.path),
            plans,
            source: Source::File,
            seen: Some(bytes),
            fault: None,
        };
        match (changed, mended) {
            (true, _) => Reload::Changed,
            (false, true) => Reload::Mended,
            (false, false) => Reload::Unchanged,
        }
    }

    fn keep(&mut self, seen: Option<Vec<u8>>, fault: PlansFileError) -> Reload<'_> {
        let known = self.fault.as_ref().is_some_and(|old| old.is_like(&fault));
        self.seen = seen;
        let fault = self.fault.insert(fault);
        if known {
            Reload::Unchanged
        } else {
            Reload::Kept(fault)
        }
    }
}

impl PlansFileError {
    fn is_like(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

/// Returns everything that is wrong or doubtful about a plans file, one sentence each. A good file returns nothing.
#[must_use]
pub fn check(path: &Path) -> Vec<String> {
    let read = || {
        let bytes = content(path)?;
        let plans = parsed(path, &bytes)?;
        Ok((plans, finished(path, &bytes).err()))
    };
    match read() {
        Err(PlansFileError::Problems(problems)) => {
            problems.to_string().lines().map(str::to_owned).collect()
        }
        Err(fault) => vec![fault.to_string()],
        Ok((plans, unfinished)) => {
            let unfinished = unfinished.map(|fault| fault.to_string());
            doubts(&plans).into_iter().chain(unfinished).collect()
        }
    }
}

fn content(path: &Path) -> Result<Vec<u8>, PlansFileError> {
    let read = || {
        let file = regular::open(path)?.ok_or_else(|| io::Error::other("not a file"))?;
        let mut bytes = Vec::new();
        // One byte over the limit tells a file that is too large from one that just fits.
        let limit = u64::try_from(Plans::LIMIT_BYTES)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|why| PlansFileError::Unreadable {
        path: path.to_owned(),
        why,
    })
}

fn parsed(path: &Path, bytes: &[u8]) -> Result<Plans, PlansFileError> {
    Plans::parse_bytes(bytes)
        .map_err(|problems| PlansFileError::Problems(problems.in_file(path.display().to_string())))
}

fn finished(path: &Path, bytes: &[u8]) -> Result<(), PlansFileError> {
    if bytes.ends_with(b"\n") {
        Ok(())
    } else {
        Err(PlansFileError::Unfinished {
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    const GOOD: &str = "version: 1\ntiers:\n  a: {rpo_minutes: 60, backup_retention_days: 30}\n";
    const OTHER: &str = "version: 1\ntiers:\n  a: {rpo_minutes: 30, backup_retention_days: 30}\n";

    struct Fixture {
        _dir: tempfile::TempDir,
        path: PathBuf,
    }

    impl Fixture {
        fn with(content: Option<&str>) -> anyhow::Result<Self> {
            let dir = tempfile::tempdir()?;
            let path = dir.path().join("plans.yaml");
            if let Some(content) = content {
                fs::write(&path, content)?;
            }
            Ok(Self { _dir: dir, path })
        }

        fn write(&self, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
            Ok(fs::write(&self.path, content)?)
        }
    }

    #[test]
    fn a_good_file_is_in_force_from_the_start() -> anyhow::Result<()> {
        let fixture = Fixture::with(Some(GOOD))?;
        let mut file = PlansFile::load(&fixture.path);
        assert_eq!(file.source(), Source::File);
        assert_eq!(*file.plans(), Plans::parse(GOOD)?);
        assert!(file.fault().is_none());
        assert!(matches!(file.reload(), Reload::Unchanged));
        Ok(())
    }

    #[test]
    fn a_missing_file_falls_back_to_the_built_in_plans_until_it_is_there() -> anyhow::Result<()> {
        let fixture = Fixture::with(None)?;
        let mut file = PlansFile::load(&fixture.path);
        assert_eq!(file.source(), Source::BuiltIn);
        assert_eq!(*file.plans(), Plans::built_in());
        assert!(matches!(
            file.fault(),
            Some(PlansFileError::Unreadable { .. })
        ));
        assert!(
            matches!(file.reload(), Reload::Unchanged),
            "reported already"
        );
        fixture.write(GOOD)?;
        assert!(matches!(file.reload(), Reload::Changed));
        assert_eq!(file.source(), Source::File);
        assert!(file.fault().is_none());
        Ok(())
    }

    #[test]
    fn a_broken_file_falls_back_to_the_built_in_plans_and_says_where() -> anyhow::Result<()> {
        let fixture = Fixture::with(Some("version: 1\ntiers:\n  a: {rpo_minutes: 3}\n"))?;
        let file = PlansFile::load(&fixture.path);
        assert_eq!(*file.plans(), Plans::built_in());
        let fault = file.fault().map(ToString::to_string).unwrap_or_default();
        let place = format!("{}:3: tier \"a\": rpo_minutes: 3", fixture.path.display());
        assert!(fault.contains(&place), "{fault}");
        Ok(())
    }

    #[test]
    fn the_built_in_plans_give_way_even_to_an_equal_file() -> anyhow::Result<()> {
        let fixture = Fixture::with(None)?;
        let mut file = PlansFile::load(&fixture.path);
        fixture.write(include_str!("../../plans.yaml"))?;
        assert!(matches!(file.reload(), Reload::Changed));
        assert_eq!(file.source(), Source::File);
        Ok(())
    }

    #[test]
    fn other_content_is_a_change_and_other_words_are_not() -> anyhow::Result<()> {
        let fixture = Fixture::with(Some(GOOD))?;
        let mut file = PlansFile::load(&fixture.path);
        fixture.write(format!("# a comment\n{GOOD}"))?;
        assert!(matches!(file.reload(), Reload::Unchanged));
        fixture.write(OTHER)?;
        assert!(matches!(file.reload(), Reload::Changed));
        assert_eq!(*file.plans(), Plans::parse(OTHER)?);
        Ok(())
    }

    #[test]
    fn a_file_that_is_replaced_under_its_old_time_stamp_is_read() -> anyhow::Result<()> {
        let fixture = Fixture::with(Some(GOOD))?;
        let mut file = PlansFile::load(&fixture.path);
        let stamp = fs::metadata(&fixture.path)?.modified()?;
        let replacement = fixture.path.with_extension("new");
        fs::write(&replacement, OTHER)?;
        File::options()
            .append(true)
            .open(&replacement)?
            .set_modified(stamp)?;
        fs::rename(&replacement, &fixture.path)?;
        assert!(matches!(file.reload(), Reload::Changed));
        Ok(())
    }

    #[test]
    fn a_fault_keeps_the_last_good_plans_and_is_reported_once() -> anyhow::Result<()> {
        let fixture = Fixture::with(Some(GOOD))?;
        let mut file = PlansFile::load(&fixture.path);
        fixture.write("version: 1\n")?;
        assert!(matches!(
            file.reload(),
            Reload::Kept(PlansFileError::Problems(_))
        ));
        assert!(matches!(file.reload(), Reload::Unchanged));
        fs::remove_file(&fixture.path)?;
        assert!(matches!(
            file.reload(),
            Reload::Kept(PlansFileError::Unreadable { .. })
        ));
        assert!(matches!(file.reload(), Reload::Unchanged));
        assert_eq!(*file.plans(), Plans::parse(GOOD)?);
        assert_eq!(file.source(), Source::File);
        assert!(file.fault().is_some());
        fixture.write(GOOD)?;
        assert!(matches!(file.reload(), Reload::Mended));
        assert!(file.fault().is_none());
        Ok(())
    }

    #[test]
    fn a_half_written_file_is_never_in_force() -> anyhow::Result<()> {
        let fixture = Fixture::with(Some(GOOD))?;
        let mut file = PlansFile::load(&fixture.path);
        let block =
            "version: 1\ntiers:\n  a:\n    rpo_minutes: 1440\n    backup_retention_days: 30\n";
        for end in 0..block.len() {
            fixture.write(block.get(..end).unwrap_or_default())?;
            assert!(!matches!(file.reload(), Reload::Changed), "{end}");
        }
        assert_eq!(*file.plans(), Plans::parse(GOOD)?);
        fixture.write(block)?;
        assert!(matches!(file.reload(), Reload::Changed));
        Ok(())
    }

    #[test]
    fn what_is_no_text_file_of_a_sane_size_is_a_fault() -> anyhow::Result<()> {
        let fixture = Fixture::with(Some(GOOD))?;
        let mut file = PlansFile::load(&fixture.path);
        let full = format!(
            "{GOOD}#{}\n",
            "x".repeat(Plans::LIMIT_BYTES - GOOD.len() - 2)
        );
        fixture.write(&full)?;
        assert!(
            matches!(file.reload(), Reload::Unchanged),
            "just small enough"
        );
        fixture.write(format!("{full}\n"))?;
        assert!(matches!(file.reload(), Reload::Kept(_)), "too large");
        fixture.write(b"\xff\xfe\n")?;
        assert!(matches!(file.reload(), Reload::Kept(_)), "not UTF-8");
        fs::remove_file(&fixture.path)?;
        fs::create_dir(&fixture.path)?;
        assert!(matches!(file.reload(), Reload::Kept(_)), "a directory");
        Ok(())
    }

    #[test]
    fn the_strict_check_passes_a_file_without_doubt_only() -> anyhow::Result<()> {
        let fixture = Fixture::with(Some(GOOD))?;
        assert!(check(&fixture.path).is_empty());
        for doubtful in [
            GOOD.trim_end().to_owned(),
            GOOD.replace("days: 30", "days: 0"),
            GOOD.replace("60", "3"),
            String::new(),
        ] {
            fixture.write(&doubtful)?;
            assert!(!check(&fixture.path).is_empty(), "{doubtful}");
        }
        fs::remove_file(&fixture.path)?;
        assert!(!check(&fixture.path).is_empty(), "missing");
        Ok(())
    }
}
