//! What objects are called: permanent, readable, and enough to tell whose they are.

use uuid::Uuid;

use crate::{
    job::Attempt,
    key::ArchiveKey,
    resource::{Engine, ResourceId, TeamId},
};

const MANIFEST: &str = ".manifest.json";
/// What the name of an encrypted archive ends with. Permanent.
const ENCRYPTED: &str = ".age";

/// Returns whether an object is an encrypted archive, as its name says.
pub(super) fn is_encrypted(key: &str) -> bool {
    key.ends_with(ENCRYPTED)
}

/// What archives of an engine are called. Permanent.
const fn suffix(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres | Engine::Vector => ".pgdump.zst",
        Engine::Mongodb => ".mongoarchive.zst",
        Engine::Redis => ".rdb.zst",
    }
}

/// The keys of one attempt: `v1/{team}/{resource}/{YYYY}/{MM}/{DD}/{HHMMSS}Z-{run}…`.
///
/// The time is when the run was enqueued, so that every attempt of a run looks in the same place.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    directory: String,
    run: String,
    epoch: i64,
    suffix: &'static str,
    is_encrypted: bool,
}

impl Keys {
    pub(crate) fn new(
        team: &TeamId,
        resource: &ResourceId,
        engine: Engine,
        attempt: Attempt,
    ) -> Self {
        let day = attempt.created_at.format("%Y/%m/%d");
        Self {
            directory: format!("v1/{team}/{resource}/{day}/"),
            run: format!(
                "{}Z-{}",
                attempt.created_at.format("%H%M%S"),
                attempt.run_id
            ),
            epoch: attempt.epoch,
            suffix: suffix(engine),
            is_encrypted: false,
        }
    }

    /// Returns the keys of an attempt that encrypts to `key`, if to any.
    pub(crate) fn encrypted_to(mut self, key: Option<&ArchiveKey>) -> Self {
        self.is_encrypted = key.is_some();
        self
    }

    /// Returns where the run's manifest is, whichever attempt writes it.
    pub(crate) fn manifest(&self) -> String {
        format!("{}{}{MANIFEST}", self.directory, self.run)
    }

    /// Returns where this attempt's archive is.
    pub(crate) fn archive(&self) -> String {
        let encrypted = if self.is_encrypted { ENCRYPTED } else { "" };
        format!(
            "{}{}-e{}{}{encrypted}",
            self.directory, self.run, self.epoch, self.suffix
        )
    }

    /// Returns what every key of the run begins with.
    pub(crate) fn run(&self) -> String {
        format!("{}{}", self.directory, self.run)
    }

    /// Returns the directory of the run's objects, with its slash.
    pub(crate) fn directory(&self) -> &str {
        &self.directory
    }

    /// Returns whether `name` is an archive, or an unfinished one, of an attempt that this one comes after.
    pub(crate) fn is_of_earlier_attempt(&self, name: &str) -> bool {
        ArchiveName::parse(name).is_some_and(|it| it.run == self.run && it.epoch < self.epoch)
    }

    /// Returns whether `name` is an archive, or an unfinished one, of this run.
    pub(crate) fn is_of_this_run(&self, name: &str) -> bool {
        ArchiveName::parse(name).is_some_and(|it| it.run == self.run)
    }
}

/// An archive's file name, taken apart. An unfinished one has a random tail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ArchiveName<'a> {
    /// What every file name of the run begins with.
    pub(crate) run: &'a str,
    pub(crate) epoch: i64,
    /// Whether nothing follows the name: a finished archive.
    pub(crate) is_whole: bool,
}

impl<'a> ArchiveName<'a> {
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let (stem, tail) = Engine::ALL
            .into_iter()
            .find_map(|engine| name.split_once(suffix(engine)))?;
        let (run, epoch) = stem.rsplit_once("-e")?;
        let (time, id) = run.split_once("Z-")?;
        let is_time = time.len() == 6 && time.bytes().all(|b| b.is_ascii_digit());
        Uuid::try_parse(id).ok().filter(|_| is_time)?;
        Some(Self {
            run,
            epoch: epoch.parse().ok()?,
            is_whole: tail.is_empty() || tail == ENCRYPTED,
        })
    }

    /// Returns the file name of the manifest that would describe it.
    pub(crate) fn manifest(&self) -> String {
        format!("{}{MANIFEST}", self.run)
    }
}

/// Returns whether an object is a manifest.
pub(crate) fn is_manifest(key: &str) -> bool {
    key.starts_with("v1/") && key.ends_with(MANIFEST)
}

#[cfg(test)]
mod tests {
    use chrono::{TimeZone as _, Utc};

    use super::*;

    fn keys(epoch: i64) -> Keys {
        let attempt = Attempt {
            run_id: Uuid::from_u128(7),
            epoch,
            created_at: Utc.with_ymd_and_hms(2026, 3, 4, 5, 6, 7).unwrap(),
        };
        Keys::new(
            &"acme".parse().unwrap(),
            &"db-1".parse().unwrap(),
            Engine::Postgres,
            attempt,
        )
    }

    #[test]
    fn keys_are_permanent() {
        let run = "v1/acme/db-1/2026/03/04/050607Z-00000000-0000-0000-0000-000000000007";
        assert_eq!(keys(3).manifest(), format!("{run}.manifest.json"));
        assert_eq!(keys(3).archive(), format!("{run}-e3.pgdump.zst"));
        assert!(is_manifest(&keys(3).manifest()) && !is_manifest(&keys(3).archive()));
    }

    #[test]
    fn an_encrypted_archive_says_so_in_its_name_and_is_known_as_an_archive() {
        let key = ArchiveKey {
            id: Uuid::from_u128(9),
            recipient: crate::key::Identity::generate().recipient(),
        };
        let plain = keys(3).archive();
        let encrypted = keys(3).encrypted_to(Some(&key)).archive();
        assert_eq!(encrypted, format!("{plain}.age"));
        let name = encrypted.rsplit_once('/').unwrap().1;
        assert!(ArchiveName::parse(name).unwrap().is_whole);
        assert!(
            !ArchiveName::parse(&format!("{name}.x8Ty"))
                .unwrap()
                .is_whole
        );
        assert!(keys(4).is_of_earlier_attempt(name) && keys(4).is_of_this_run(name));
    }

    #[test]
    fn an_attempt_knows_the_leftovers_of_earlier_ones() {
        let name = |epoch| keys(epoch).archive().rsplit_once('/').unwrap().1.to_owned();
        assert!(keys(3).is_of_earlier_attempt(&name(2)));
        assert!(keys(3).is_of_earlier_attempt(&format!("{}.x8Ty", name(2))));
        assert!(!keys(3).is_of_earlier_attempt(&name(3)));
        assert!(!keys(3).is_of_earlier_attempt(&name(4)) && keys(3).is_of_this_run(&name(4)));
        assert!(!keys(3).is_of_this_run("050607Z-x-e1.pgdump.zst"));
        assert_eq!(
            ArchiveName::parse(&name(2)).unwrap().manifest(),
            keys(9).manifest().rsplit_once('/').unwrap().1
        );
    }
}
