//! `lastgood restore --from STORE RESOURCE`: finds the point to restore by the store's manifests alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use lastgood_jobs::{
    error::JobError,
    inventory::examine,
    resource::{ResourceId, TeamId},
    sought::Sought,
    storage::Storage,
    survey::{AHEAD_MAX, Found, Holding, Owner, Survey, Wanted, survey},
};
use serde::Serialize;
use uuid::Uuid;

use super::{
    super::output::{Output, counted, instant, printable},
    Args,
    in_process::{Outcome, Target, restore_from_one},
};
use crate::stores;

/// How many of the newest points are examined in search of one that can be restored.
const LOOKED_AT_MAX: usize = 1000;
/// How many candidates, faults and skipped points are named.
const NAMED_MAX: usize = 10;

/// The chosen point, and why it was chosen.
#[derive(Debug, Serialize)]
struct Choice {
    point: Uuid,
    team: TeamId,
    installation: Option<Uuid>,
    consistent_at: DateTime<Utc>,
    manifest_key: String,
    /// Newer points that were not taken.
    passed_over: Vec<PassedOver>,
    /// How many points are dated in the future, or later than requested.
    later: u64,
    /// How many of the resource's manifests are unreadable. One of them may be of a newer point.
    unreadable: u64,
    /// Whether the store belongs to another installation than the point, according to its identity object.
    is_other_installation: bool,
    /// The next older point that is complete and not suspect, according to its manifest.
    #[serde(skip)]
    older: Option<(Uuid, DateTime<Utc>)>,
    /// What its manifest says.
    #[serde(skip)]
    found: Found,
}

/// A point that is newer than the chosen one.
#[derive(Debug, Serialize)]
struct PassedOver {
    point: Uuid,
    consistent_at: DateTime<Utc>,
    because: String,
}

/// Restores the point that the flags choose into the empty target of `--into`.
pub(super) async fn run(
    from: &str,
    resource: &ResourceId,
    args: &Args,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let target = Target::of(args).await?;
    let store = stores::open_one(from, args.storage.stores.as_deref()).await?;
    let asked = Asked {
        from,
        resource,
        args,
    };
    let now = Utc::now();
    let mut choice = asked.choose(&store.storage, now, output).await?;
    choice.is_other_installation = is_other_installation(&choice, &store.storage, output).await;
    let sought = Sought::at(&choice.manifest_key);
    let manifest = examine(&sought, &store.storage).await;
    let manifest = manifest.map_err(|error| anyhow::anyhow!(error.report()))?;
    anyhow::ensure!(
        choice.found.is_of(&manifest, now),
        "the manifest of restore point {} changed after the point was chosen: somebody is writing to the store; {}",
        choice.point,
        asked.list()
    );
    let stores = [(store, manifest)];
    match restore_from_one(&sought, &stores, &target, args, output).await? {
        Outcome::Restored(restored) => {
            restored.show(Some(serde_json::to_value(&choice)?), output)?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::NotWhole(faults) => {
            let next = match choice.older {
                Some((older, at)) => {
                    format!(
                        "the next older one is of {}: use --point {older}",
                        instant(at)
                    )
                }
                None => asked.list(),
            };
            anyhow::bail!("{}; {next}", faults.join("; "))
        }
    }
}

/// The restore that was requested.
struct Asked<'a> {
    from: &'a str,
    resource: &'a ResourceId,
    args: &'a Args,
}

impl Asked<'_> {
    async fn choose(
        &self,
        storage: &Storage,
        now: DateTime<Utc>,
        output: &Output,
    ) -> anyhow::Result<Choice> {
        let by_id = self.args.point.is_some();
        // A point dated in the future is never chosen by default.
        let latest = self.args.at.unwrap_or(now + AHEAD_MAX).min(now + AHEAD_MAX);
        let wanted = Wanted {
            team: self.args.team.as_ref(),
            resource: Some(self.resource),
            point: self.args.point,
            installation: self.args.installation,
            at: (!by_id).then_some(latest),
        };
        let found = survey(storage, &wanted, LOOKED_AT_MAX, now).await;
        let found = found.map_err(|error| anyhow::anyhow!(error.report()))?;
        if let Some(why) = &found.stopped {
            anyhow::bail!(
                "the store stopped returning manifests, and one that was not read may be the newest: {why}"
            );
        }
        tell_unreadable(&found, output);
        anyhow::ensure!(!found.points.is_empty(), "{}", self.nothing(&found));
        self.refuse_ambiguity(&found.owners)?;
        if self.args.at.is_none() && found.later > 0 {
            output.note(&format!(
                "passed over {} dated in the future: {}",
                counted(found.later, "restore point"),
                self.list()
            ));
        }
        if by_id {
            return self.the_one(found);
        }
        self.newest(found, storage, output).await
    }

    /// Returns the point that was named. Its completeness is checked during the restore.
    fn the_one(&self, found: Survey) -> anyhow::Result<Choice> {
        let keys: Vec<&str> = found
            .points
            .iter()
            .map(|it| it.manifest_key.as_str())
            .collect();
        anyhow::ensure!(
            keys.len() == 1,
            "{} manifests claim to be of this restore point: name one with --from-manifest KEY --storage {}: {}",
            keys.len(),
            word(self.from),
            named(keys.iter().copied())
        );
        let left_out = (found.later, found.unreadable);
        let mut points = found.points.into_iter();
        let point = points.next().context("there is no such restore point")?;
        Ok(Choice::of(point, Vec::new(), left_out))
    }

    /// Returns the newest point that is complete and not suspect.
    async fn newest(
        &self,
        found: Survey,
        storage: &Storage,
        output: &Output,
    ) -> anyhow::Result<Choice> {
        let left_out = (found.later, found.unreadable);
        let mut passed_over = Vec::new();
        let mut points = found.points.into_iter();
        while let Some(point) = points.next() {
            let Some(because) = why_not(&point, storage).await? else {
                let mut choice = Choice::of(point, passed_over, left_out);
                choice.older = points
                    .find(|older| older.suspicions.is_empty())
                    .map(|older| (older.id, older.consistent_at));
                output.note(&format!(
                    "restore point {} is the newest that is complete and not suspect",
                    choice.point
                ));
                return Ok(choice);
            };
            output.note(&format!(
                "passed over restore point {} of {}: {because}",
                point.id,
                instant(point.consistent_at)
            ));
            passed_over.push(PassedOver {
                point: point.id,
                consistent_at: point.consistent_at,
                because,
            });
        }
        anyhow::bail!(
            "none of the newest {} restore points of {} is complete and not suspect: {}; --point ID --even-suspect restores from \
             a suspect one, --at TIME looks further back",
            passed_over.len(),
            self.resource,
            self.list()
        )
    }

    /// Refuses to choose between points that may be of two different databases.
    fn refuse_ambiguity(&self, owners: &BTreeMap<Owner, Holding>) -> anyhow::Result<()> {
        let teams: BTreeSet<&TeamId> = owners.keys().map(|owner| &owner.team).collect();
        anyhow::ensure!(
            teams.len() < 2,
            "{} teams have a resource {}: say which with --team: {}",
            teams.len(),
            self.resource,
            named(teams.iter().map(|team| {
                let of_team = owners.iter().filter(|(owner, _)| owner.team == **team);
                format!("{team} ({})", holding(of_team.map(|(_, holding)| holding)))
            }))
        );
        let installations: BTreeSet<Uuid> =
            owners.keys().filter_map(|it| it.installation).collect();
        anyhow::ensure!(
            installations.len() < 2,
            "{} installations made restore points of {}, and only a catalog knows whether one took the other's place: say which with \
             --installation, or take one with --point: {}",
            installations.len(),
            self.resource,
            named(owners.iter().map(|(owner, of_owner)| {
                let name = owner.installation.map_or_else(
                    || "no installation named".to_owned(),
                    |installation| installation.to_string(),
                );
                format!("{name} ({})", holding([of_owner]))
            }))
        );
        Ok(())
    }

    fn nothing(&self, found: &Survey) -> String {
        let (resource, list) = (self.resource, self.list());
        if let Some(point) = self.args.point {
            return format!(
                "there is no restore point {point} of {resource} in {}: {list}",
                self.from
            );
        }
        match self.args.at {
            Some(at) if found.later > 0 => format!(
                "{resource} has no restore point at or before {} in {}, but {} later ones: {list}",
                instant(at),
                self.from,
                found.later
            ),
            Some(_) | None => format!(
                "{resource} has no restore point in {} that can be read: {}",
                self.from,
                self.list_all()
            ),
        }
    }

    /// Returns the command that lists the resource's points without a catalog.
    fn list(&self) -> String {
        format!("{} --resource {}`", self.list_begins(), self.resource)
    }

    /// Returns the command that lists the points of all resources.
    fn list_all(&self) -> String {
        format!("{}`", self.list_begins())
    }

    fn list_begins(&self) -> String {
        format!("see `lastgood point list --from {}", word(self.from))
    }
}

impl Choice {
    fn of(found: Found, passed_over: Vec<PassedOver>, (later, unreadable): (u64, u64)) -> Self {
        Self {
            point: found.id,
            team: found.team.clone(),
            installation: found.installation,
            consistent_at: found.consistent_at,
            manifest_key: found.manifest_key.clone(),
            passed_over,
            later,
            unreadable,
            is_other_installation: false,
            older: None,
            found,
        }
    }
}

/// Returns whether the store belongs to another installation than the point, and prints it, or why it cannot be known.
async fn is_other_installation(choice: &Choice, storage: &Storage, output: &Output) -> bool {
    let Some(of_point) = choice.installation else {
        return false;
    };
    let told = match storage.identity().await {
        Ok(Some(own)) if own.installation == of_point => return false,
        Ok(Some(own)) => {
            let own = own.installation;
            output.note(&format!(
                "INSTALLATION: the point is of installation {of_point}, but the store belongs to installation {own}: make sure that it is \
                 your customer's data"
            ));
            return true;
        }
        Ok(None) => "the store does not say whose it is".to_owned(),
        Err(error) => format!("the store's identity cannot be read: {}", error.report()),
    };
    output.note(&format!(
        "INSTALLATION: the point is of installation {of_point}, and {told}"
    ));
    false
}

/// Returns why a point is not restored by default, if so.
///
/// Fails if the store does not say whether the archive exists: taking an older point instead would be a guess.
async fn why_not(point: &Found, storage: &Storage) -> anyhow::Result<Option<String>> {
    if let Some(suspicion) = point.suspicions.first() {
        let because = printable(&suspicion.because);
        return Ok(Some(format!(
            "suspect ({}): {because}",
            suspicion.reason.as_str()
        )));
    }
    match point.is_complete(storage).await {
        Ok(()) => Ok(None),
        Err(error @ JobError::Damaged { .. }) => {
            Ok(Some(format!("incomplete: {}", error.report())))
        }
        Err(error) => anyhow::bail!(
            "the store does not say whether it has the archive of restore point {} of {}, and lastgood does not take an older point \
             unasked: {}; name one with --point",
            point.id,
            instant(point.consistent_at),
            error.report()
        ),
    }
}

fn tell_unreadable(found: &Survey, output: &Output) {
    for (manifest, why) in found.faults.iter().take(NAMED_MAX) {
        output.note(&format!(
            "UNREADABLE: {}: {}",
            printable(manifest),
            printable(why)
        ));
    }
    if found.unreadable > 0 {
        output.note(&format!(
            "{} that cannot be read may be of a newer restore point",
            counted(found.unreadable, "manifest")
        ));
    }
}

/// Returns how many points an owner has, and from when the newest is.
fn holding<'a>(holdings: impl IntoIterator<Item = &'a Holding>) -> String {
    let (mut points, mut newest) = (0, None);
    for holding in holdings {
        points += holding.points;
        newest = newest.max(holding.newest);
    }
    let points = counted(points, "restore point");
    match newest {
        Some((at, id)) => format!("{points}, the newest {id} of {}", instant(at)),
        None => format!("{points}, suspect"),
    }
}

/// Returns the first few of the names.
fn named<T: AsRef<str>>(things: impl IntoIterator<Item = T>) -> String {
    let things: Vec<T> = things.into_iter().collect();
    let mut names: Vec<&str> = things.iter().take(NAMED_MAX).map(AsRef::as_ref).collect();
    if things.len() > NAMED_MAX {
        names.push("and others");
    }
    names.join(", ")
}

/// Returns the text as a single word for a shell.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@+,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
