//! What are objects called? Their names are permanent, readable, and enough to tell whose they are.

use uuid::{Uuid, fmt::Hyphenated};

use crate::{
    attempt::{Attempt, AttemptId, Epoch},
    key::ArchiveKey,
    names::{Engine, ResourceId, TeamId},
};

/// The prefix of all restore points' keys.
pub(super) const POINTS: &str = "v1/";
/// The prefix of the escrows' keys.
pub(crate) const ESCROWS: &str = "keys/";
/// The prefix of the objects with which a store is tried out.
pub(super) const CHECKS: &str = "check/";
pub(super) const MANIFEST: &str = ".manifest.json";
/// The end of an encrypted archive's name. Permanent.
const ENCRYPTED: &str = ".age";

/// Returns whether an object's name is that of an encrypted archive.
pub(super) fn is_encrypted(key: &str) -> bool {
    key.ends_with(ENCRYPTED)
}

/// Returns the prefix of a team's keys.
pub(super) fn team_prefix(team: &TeamId) -> String {
    format!("{POINTS}{team}/")
}

/// Returns the prefix of a resource's keys, which no other resource's keys have.
pub(crate) fn resource_prefix(team: &TeamId, resource: &ResourceId) -> String {
    format!("{}{resource}/", team_prefix(team))
}

/// Returns the end of the names of an engine's archives. Permanent.
const fn suffix(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres | Engine::Vector => ".pgdump.zst",
        Engine::Mongodb => ".mongoarchive.zst",
        Engine::Redis => ".rdb.zst",
    }
}

/// The keys of one attempt: `v1/{team}/{resource}/{YYYY}/{MM}/{DD}/{HHMMSS}Z-{run}…`.
///
/// The time is when the run was enqueued, so that all attempts of a run look in the same place. An archive's name
/// continues with `-e{epoch}-{attempt}`, or with `-e{epoch}` alone if its build drew no attempt ids.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    directory: String,
    run: String,
    epoch: Epoch,
    attempt_id: AttemptId,
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
            directory: format!("{}{day}/", resource_prefix(team, resource)),
            run: format!("{}Z-{}", attempt.created_at.format("%H%M%S"), attempt.run),
            epoch: attempt.epoch,
            attempt_id: attempt.id,
            suffix: suffix(engine),
            is_encrypted: false,
        }
    }

    /// Returns the keys of an attempt that encrypts to `key`, if there is one.
    pub(crate) fn encrypted_to(mut self, key: Option<&ArchiveKey>) -> Self {
        self.is_encrypted = key.is_some();
        self
    }

    /// Returns the key of the run's manifest, which is the same for every attempt.
    pub(crate) fn manifest(&self) -> String {
        format!("{}{}{MANIFEST}", self.directory, self.run)
    }

    /// Returns the key of this attempt's archive, which no other attempt ever uses.
    pub(crate) fn archive(&self) -> String {
        let encrypted = if self.is_encrypted { ENCRYPTED } else { "" };
        format!(
            "{}{}-e{}-{}{}{encrypted}",
            self.directory,
            self.run,
            self.epoch,
            self.attempt_id.0.simple(),
            self.suffix
        )
    }
}

/// The parts of an archive's file name. An unfinished archive has a random suffix.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ArchiveName<'a> {
    /// The beginning of every file name of the run.
    pub(crate) run: &'a str,
    /// Whether nothing follows the name, so that the archive is finished.
    pub(crate) is_whole: bool,
}

impl<'a> ArchiveName<'a> {
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let (stem, tail) = Engine::ALL
            .into_iter()
            .find_map(|engine| name.split_once(suffix(engine)))?;
        let (time, rest) = stem.split_once("Z-")?;
        let is_time = time.len() == 6 && time.bytes().all(|b| b.is_ascii_digit());
        let (id, rest) = rest.split_at_checked(Hyphenated::LENGTH)?;
        Uuid::try_parse(id).ok().filter(|_| is_time)?;
        let of_attempt = rest.strip_prefix("-e")?;
        let (epoch, attempt) = match of_attempt.split_once('-') {
            Some((epoch, attempt)) => (epoch, Some(attempt)),
            // Made by a build that drew no attempt ids.
            None => (of_attempt, None),
        };
        epoch.parse::<i64>().ok()?;
        if let Some(attempt) = attempt {
            Uuid::try_parse(attempt).ok()?;
        }
        Some(Self {
            run: stem.strip_suffix(rest)?,
            is_whole: tail.is_empty() || tail == ENCRYPTED,
        })
    }

    /// Returns the file name of the archive's manifest.
    pub(crate) fn manifest(&self) -> String {
        format!("{}{MANIFEST}", self.run)
    }
}

/// Returns whether an object is a manifest.
pub(crate) fn is_manifest(key: &str) -> bool {
    key.starts_with(POINTS) && key.ends_with(MANIFEST)
}

#[cfg(test)]
mod tests {
    use chrono::{TimeZone as _, Utc};
    use rstest::rstest;

    use super::*;

    const RUN: &str = "050607Z-00000000-0000-0000-0000-000000000007";

    fn keys(epoch: Epoch) -> Keys {
        let attempt = Attempt {
            run: crate::attempt::RunId(Uuid::from_u128(7)),
            epoch,
            id: AttemptId(Uuid::from_u128(0xe1)),
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
        let run = format!("v1/acme/db-1/2026/03/04/{RUN}");
        assert_eq!(keys(Epoch(3)).manifest(), format!("{run}.manifest.json"));
        let archive = format!("{run}-e3-000000000000000000000000000000e1.pgdump.zst");
        assert_eq!(keys(Epoch(3)).archive(), archive);
        assert!(is_manifest(&keys(Epoch(3)).manifest()) && !is_manifest(&keys(Epoch(3)).archive()));
    }

    #[test]
    fn an_encrypted_archive_says_so_in_its_name_and_is_known_as_an_archive() {
        let key = ArchiveKey {
            id: Uuid::from_u128(9),
            recipient: crate::key::Identity::generate().recipient(),
        };
        let plain = keys(Epoch(3)).archive();
        let encrypted = keys(Epoch(3)).encrypted_to(Some(&key)).archive();
        assert_eq!(encrypted, format!("{plain}.age"));
        let name = encrypted.rsplit_once('/').unwrap().1;
        assert!(ArchiveName::parse(name).unwrap().is_whole);
        assert!(
            !ArchiveName::parse(&format!("{name}.x8Ty"))
                .unwrap()
                .is_whole
        );
    }

    #[rstest]
    #[case::of_an_older_build("-e2")]
    #[case::of_this_build("-e2-000000000000000000000000000000e1")]
    #[case::whose_attempt_begins_as_an_epoch_does("-e2-e1000000000000000000000000000000")]
    fn an_archive_is_known_by_its_name(#[case] of_attempt: &str) {
        let name = format!("{RUN}{of_attempt}.pgdump.zst");
        let archive = ArchiveName::parse(&name).unwrap();
        assert_eq!((archive.run, archive.is_whole), (RUN, true));
        let manifest = keys(Epoch(9)).manifest();
        assert_eq!(archive.manifest(), manifest.rsplit_once('/').unwrap().1);
    }

    #[rstest]
    #[case::no_run("050607Z-x-e1.pgdump.zst")]
    #[case::no_time("0506Z-00000000-0000-0000-0000-000000000007-e1.pgdump.zst")]
    #[case::no_epoch("050607Z-00000000-0000-0000-0000-000000000007-ex.pgdump.zst")]
    #[case::no_attempt("050607Z-00000000-0000-0000-0000-000000000007-e1-x.pgdump.zst")]
    #[case::no_archive("050607Z-00000000-0000-0000-0000-000000000007-e1.txt")]
    fn what_is_no_archive_of_ours_is_left_alone(#[case] name: &str) {
        assert_eq!(ArchiveName::parse(name), None);
    }
}
