//! Which restore points does a store hold, judging by its manifests alone? For callers without a catalog.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt as _;
use uuid::Uuid;

use crate::{
    archive,
    error::{ErrorKind, JobError, told},
    inventory::belongs,
    manifest::{Encryption, Manifest, Suspect, Suspicion},
    names::{Engine, ResourceId, TeamId, Tier},
    object_key::ObjectKey,
    sought::Sought,
    storage::Storage,
};

/// How many manifests are read from the store at once.
const READ_AT_ONCE: usize = 8;
/// How many faults and how many owners are kept individually. Anybody with write access to the store can make more.
const TOLD_APART_MAX: usize = 1000;
/// How many suspicions of one manifest are kept.
const SUSPICIONS_MAX: usize = 8;
/// The survey stops after this many manifests in a row that the store does not return.
const UNREADABLE_MAX: u64 = 20;
/// More than clocks differ. A manifest dated later than this cannot be dated at all.
pub const AHEAD_MAX: TimeDelta = TimeDelta::minutes(5);

/// Which restore points are wanted. A field that is `None` does not restrict them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Only this team's.
    pub team: Option<&'a TeamId>,
    /// Only this resource's.
    pub resource: Option<&'a ResourceId>,
    /// Only the one with this id.
    pub point: Option<Uuid>,
    /// Only those that this installation made.
    pub installation: Option<Uuid>,
    /// Only those at or before this instant.
    pub at: Option<DateTime<Utc>>,
}

/// A restore point as its manifest describes it. Small, however large the manifest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The key of its manifest.
    pub manifest_key: String,
    /// The restore point's id.
    pub id: Uuid,
    /// The resource.
    pub resource_id: ResourceId,
    /// The resource's team at that time.
    pub team: TeamId,
    /// The resource's tier at that time.
    pub tier: Tier,
    /// The resource's engine.
    pub engine: Engine,
    /// The installation that made it; `None` if its build recorded none.
    pub installation: Option<Uuid>,
    /// The instant that a restore brings the data back to.
    pub consistent_at: DateTime<Utc>,
    /// Bytes before compression.
    pub dump_bytes: u64,
    /// Bytes in the store.
    pub stored_bytes: u64,
    /// How its archive is encrypted, if it is.
    pub encryption: Option<Encryption>,
    /// Why it should not be used by default; only a few reasons are kept.
    pub suspicions: Vec<Suspicion>,
    archive: ObjectKey,
}

/// The owner of restore points: the team and the installation that their manifests name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The team.
    pub team: TeamId,
    /// The installation.
    pub installation: Option<Uuid>,
}

/// What one owner has among the wanted points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    /// How many points.
    pub points: u64,
    /// The instant and id of the newest point that is not suspect.
    pub newest: Option<(DateTime<Utc>, Uuid)>,
}

/// The result of reading a store's manifests.
#[derive(Debug, Default)]
pub struct Survey {
    /// How many manifests were read, wanted or not.
    pub manifests: u64,
    /// The newest wanted points, newest first.
    pub points: Vec<Found>,
    /// How many more points are wanted, all of them older.
    pub older: u64,
    /// How many points were left out only because they are later than the wanted instant.
    pub later: u64,
    /// The owners of the wanted points; only some if there are very many.
    pub owners: BTreeMap<Owner, Holding>,
    /// How many manifests are unreadable or in the wrong place.
    pub unreadable: u64,
    /// Why, by the manifest's key; only some if there are very many.
    pub faults: BTreeMap<String, String>,
    /// Why the survey stopped early, because the store returned no more manifests.
    pub stopped: Option<String>,
}

/// Reads every manifest that may be wanted, and keeps the `most` newest.
///
/// Manifests that cannot be read are counted and reported, and do not hide others. `now` tells which points are dated
/// in the future. Memory holds about `most` points and a few manifests, however many the store has. Archives are not
/// checked: see [`Found::is_complete`].
///
/// An error means that the listing failed, so that nothing is known about the store.
pub async fn survey(
    storage: &Storage,
    wanted: &Wanted<'_>,
    most: usize,
    now: DateTime<Utc>,
) -> Result<Survey, JobError> {
    let keys = storage
        .manifest_keys_of(wanted.team, wanted.resource)
        .await?;
    let mut manifests = keys
        .try_filter(|key| std::future::ready(wanted.may_be_at(key)))
        .map_ok(|key| async move {
            let read = read(&key, storage).await;
            Ok::<_, JobError>((key, read))
        })
        .try_buffer_unordered(READ_AT_ONCE);
    let mut survey = Survey::default();
    let mut denied_in_a_row = 0;
    while let Some((key, read)) = manifests.try_next().await? {
        match read {
            // It was removed after it was listed.
            Err(JobError::NoSuchPoint { .. }) => {}
            Ok(manifest) => {
                survey.manifests += 1;
                denied_in_a_row = 0;
                survey.take(key, &manifest, wanted, now);
                if survey.points.len() >= most.saturating_mul(2) {
                    survey.keep_newest(most);
                }
            }
            Err(error) => {
                denied_in_a_row = if is_of_the_manifest(&error) {
                    0
                } else {
                    denied_in_a_row + 1
                };
                survey.manifests += 1;
                survey.note(key, &error);
                if denied_in_a_row == UNREADABLE_MAX {
                    survey.stopped = Some(error.report());
                    break;
                }
            }
        }
    }
    survey.keep_newest(most);
    Ok(survey)
}

async fn read(key: &str, storage: &Storage) -> Result<Manifest, JobError> {
    let manifest = Sought::at(key).read(storage).await?;
    belongs(&manifest, key)?;
    Ok(manifest)
}

/// Returns whether the manifest is wrong, rather than the store failing.
fn is_of_the_manifest(error: &JobError) -> bool {
    error.kind() == ErrorKind::Corrupt || matches!(error, JobError::ObjectKey(_))
}

/// Returns why a restore point should not be used by default: the suspicions in its manifest, and a date in the future.
/// Keeps only a few reasons, and shortens long texts.
#[must_use]
pub fn suspicions(manifest: &Manifest, now: DateTime<Utc>) -> Vec<Suspicion> {
    let ahead = (manifest.consistent_at > now + AHEAD_MAX).then(|| {
        let at = manifest.consistent_at.format("%Y-%m-%d %H:%M:%SZ");
        let because = format!("its manifest is dated {at}, which is yet to come");
        Suspicion::new(Suspect::FromTheFuture, because)
    });
    let own = manifest.suspicions.iter().map(|it| Suspicion {
        reason: it.reason,
        because: told(it.because.clone()),
    });
    ahead.into_iter().chain(own).take(SUSPICIONS_MAX).collect()
}

impl Wanted<'_> {
    /// Returns whether the manifest at this key may be wanted: its name has the restore point's id.
    fn may_be_at(&self, key: &str) -> bool {
        self.point
            .is_none_or(|point| key.contains(&point.to_string()))
    }

    /// Returns whether a manifest is wanted, ignoring its instant.
    fn is(&self, manifest: &Manifest) -> bool {
        self.team.is_none_or(|team| *team == manifest.team)
            && self
                .resource
                .is_none_or(|resource| *resource == manifest.resource_id)
            && self.point.is_none_or(|point| point == manifest.run_id.0)
            && (self.installation.is_none() || self.installation == manifest.installation)
    }
}

impl Found {
    fn new(manifest_key: String, manifest: &Manifest, now: DateTime<Utc>) -> Self {
        Self {
            manifest_key,
            id: manifest.run_id.0,
            resource_id: manifest.resource_id.clone(),
            team: manifest.team.clone(),
            tier: manifest.tier.clone(),
            engine: manifest.engine,
            installation: manifest.installation,
            consistent_at: manifest.consistent_at,
            dump_bytes: manifest.dump.size_bytes,
            stored_bytes: manifest.archive.size_bytes,
            encryption: manifest.archive.encryption.clone(),
            suspicions: suspicions(manifest, now),
            archive: manifest.archive.key.clone(),
        }
    }

    /// Returns whether this manifest still describes the restore point; `now` must be the same as for the survey.
    #[must_use]
    pub fn is_of(&self, manifest: &Manifest, now: DateTime<Utc>) -> bool {
        *self == Self::new(self.manifest_key.clone(), manifest, now)
    }

    /// Checks that the archive is in the store with the manifest's size. [`JobError::Damaged`] means that it is not;
    /// any other error means that the store did not tell. The bytes are not read.
    pub async fn is_complete(&self, storage: &Storage) -> Result<(), JobError> {
        archive::is_there(storage, &self.archive, self.stored_bytes).await
    }
}

impl Survey {
    fn take(&mut self, key: String, manifest: &Manifest, wanted: &Wanted<'_>, now: DateTime<Utc>) {
        if !wanted.is(manifest) {
            return;
        }
        if wanted.at.is_some_and(|at| manifest.consistent_at > at) {
            self.later += 1;
            return;
        }
        let found = Found::new(key, manifest, now);
        let owner = Owner {
            team: found.team.clone(),
            installation: found.installation,
        };
        if self.owners.len() < TOLD_APART_MAX || self.owners.contains_key(&owner) {
            let holding = self.owners.entry(owner).or_default();
            holding.points += 1;
            if found.suspicions.is_empty() {
                holding.newest = holding.newest.max(Some((found.consistent_at, found.id)));
            }
        }
        self.points.push(found);
    }

    fn note(&mut self, key: String, error: &JobError) {
        self.unreadable += 1;
        if self.faults.len() < TOLD_APART_MAX {
            // The key is shown beside it.
            let why = if let JobError::BadManifest { why, .. } = error {
                told(why.clone())
            } else {
                error.report()
            };
            self.faults.insert(key, why);
        }
    }

    fn keep_newest(&mut self, most: usize) {
        self.points.sort_by(|a, b| {
            let newer = b.consistent_at.cmp(&a.consistent_at);
            newer.then_with(|| a.manifest_key.cmp(&b.manifest_key))
        });
        let over = self.points.len().saturating_sub(most);
        self.older += over as u64;
        self.points.truncate(most);
    }
}

#[cfg(test)]
mod tests;
