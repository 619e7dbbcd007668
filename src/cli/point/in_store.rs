//! `lastgood point list --from STORE`: lists the restore points of a store from its manifests, for when there is no catalog to ask.

use std::{collections::BTreeMap, process::ExitCode};

use chrono::{DateTime, Utc};
use futures::{StreamExt as _, stream};
use lastgood_jobs::{
    error::JobError,
    manifest::{Encryption, Suspect},
    resource::{Engine, ResourceId, TeamId, Tier},
    storage::Storage,
    survey::{Found, Survey, Wanted, survey},
};
use serde::Serialize;
use uuid::Uuid;

use super::{
    super::output::{Output, bytes, counted, instant, printable, table},
    ListArgs,
};
use crate::stores::{self, NamedStore};

/// How many archives are looked up at once.
const LOOKED_FOR_AT_ONCE: usize = 8;
/// How many unreadable manifests are printed.
const FAULTS_SHOWN: usize = 100;

/// What a store has.
#[derive(Debug, Serialize)]
struct Listing {
    store: String,
    /// The id in the store's identity object.
    identity: Option<Uuid>,
    /// The store's installation, according to its identity object.
    installation: Option<Uuid>,
    /// Why the identity object cannot be read, if it cannot.
    unidentified_because: Option<String>,
    manifests: u64,
    points: Vec<Listed>,
    older: u64,
    later: u64,
    /// The number of points made by each installation other than the store's.
    other_installations: BTreeMap<Uuid, u64>,
    unreadable: u64,
    faults: Vec<Fault>,
    /// Why not all manifests were read, if so.
    stopped_because: Option<String>,
}

/// A restore point, with the field names of a list from the catalog.
#[derive(Debug, Serialize)]
struct Listed {
    id: Uuid,
    team: TeamId,
    resource: ResourceId,
    tier: Tier,
    engine: Engine,
    installation: Option<Uuid>,
    is_other_installation: bool,
    consistent_at: DateTime<Utc>,
    manifest_key: String,
    dump_bytes: u64,
    stored_bytes: u64,
    encryption: Option<Encryption>,
    suspected_of: Option<Vec<Suspect>>,
    suspected_because: Option<String>,
    /// Whether its archive exists in the size that the manifest gives; `None` if the store does not say.
    is_complete: Option<bool>,
    /// Why it is incomplete, or why that is unknown.
    incomplete_because: Option<String>,
}

/// An unreadable manifest.
#[derive(Debug, Serialize)]
struct Fault {
    manifest: String,
    because: String,
}

/// Lists the points of one store.
pub(super) async fn list(from: &str, args: &ListArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let store = stores::open_one(from, args.stores.as_deref()).await?;
    let wanted = Wanted {
        team: args.team.as_ref(),
        resource: args.of.resource(),
        point: None,
        installation: args.installation,
        at: args.at,
    };
    let most = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let found = survey(&store.storage, &wanted, most, Utc::now()).await;
    let found = found.map_err(|error| anyhow::anyhow!(error.report()))?;
    anyhow::ensure!(
        found.manifests > 0,
        "there is no manifest {}in {}: is it the right store?",
        of(&wanted),
        store.url
    );
    let listing = listing(&store, found).await;
    output.show(&listing, text)?;
    Ok(if listing.stopped_because.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns which manifests were read, if not all of them.
fn of(wanted: &Wanted<'_>) -> String {
    match (wanted.team, wanted.resource) {
        (None, None) => String::new(),
        (Some(team), None) => format!("of team {team} "),
        (None, Some(resource)) => format!("of {resource} "),
        (Some(team), Some(resource)) => format!("of team {team}'s {resource} "),
    }
}

async fn listing(store: &NamedStore, found: Survey) -> Listing {
    let (identity, unidentified_because) = match store.storage.identity().await {
        Ok(identity) => (identity, None),
        Err(JobError::StoreChanged { why }) => (None, Some(why)),
        Err(error) => (None, Some(error.report())),
    };
    let own = identity.as_ref().map(|identity| identity.installation);
    let mut other_installations = BTreeMap::new();
    for (owner, holding) in &found.owners {
        if let Some(other) = owner.installation.filter(|it| own != Some(*it)) {
            *other_installations.entry(other).or_default() += holding.points;
        }
    }
    let points = stream::iter(found.points)
        .map(|point| listed(point, own, &store.storage))
        .buffered(LOOKED_FOR_AT_ONCE)
        .collect()
        .await;
    Listing {
        store: store.url.to_string(),
        identity: identity.map(|identity| identity.store),
        installation: own,
        unidentified_because,
        manifests: found.manifests,
        points,
        older: found.older,
        later: found.later,
        other_installations,
        unreadable: found.unreadable,
        faults: found
            .faults
            .into_iter()
            .map(|(manifest, because)| Fault { manifest, because })
            .collect(),
        stopped_because: found.stopped,
    }
}

async fn listed(point: Found, own: Option<Uuid>, storage: &Storage) -> Listed {
    let (is_complete, incomplete_because) = match point.is_complete(storage).await {
        Ok(()) => (Some(true), None),
        Err(error @ JobError::Damaged { .. }) => (Some(false), Some(error.report())),
        Err(error) => (None, Some(error.report())),
    };
    let is_suspect = !point.suspicions.is_empty();
    let because: Vec<&str> = point
        .suspicions
        .iter()
        .map(|it| it.because.as_str())
        .collect();
    Listed {
        id: point.id,
        is_other_installation: point
            .installation
            .is_some_and(|it| own.is_some_and(|own| own != it)),
        suspected_because: is_suspect.then(|| because.join("; ")),
        suspected_of: is_suspect.then(|| point.suspicions.iter().map(|it| it.reason).collect()),
        team: point.team,
        resource: point.resource_id,
        tier: point.tier,
        engine: point.engine,
        installation: point.installation,
        consistent_at: point.consistent_at,
        manifest_key: point.manifest_key,
        dump_bytes: point.dump_bytes,
        stored_bytes: point.stored_bytes,
        encryption: point.encryption,
        is_complete,
        incomplete_because,
    }
}

fn text(listing: &Listing) -> String {
    let rows = listing.points.iter().map(|point| {
        [
            point.id.to_string(),
            point.team.to_string(),
            point.resource.to_string(),
            instant(point.consistent_at),
            size(point.dump_bytes),
            size(point.stored_bytes),
            state(point),
        ]
    });
    let headings = [
        "id",
        "team",
        "resource",
        "consistent at",
        "dump",
        "stored",
        "state",
    ];
    let mut lines = if listing.points.is_empty() {
        vec![nothing(listing)]
    } else {
        vec![table(headings, rows).trim_end().to_owned()]
    };
    lines.extend(listing.points.iter().filter_map(|point| {
        let because = point.suspected_because.as_deref()?;
        Some(format!("SUSPECT: {}: {}", point.id, printable(because)))
    }));
    lines.extend(listing.points.iter().filter_map(|point| {
        let because = point.incomplete_because.as_deref()?;
        Some(format!(
            "{}: {}: {}",
            completeness(point),
            point.id,
            printable(because)
        ))
    }));
    lines.extend(about_installations(listing));
    let shown = listing.faults.iter().take(FAULTS_SHOWN);
    lines.extend(shown.map(|fault| {
        format!(
            "UNREADABLE: {}: {}",
            printable(&fault.manifest),
            printable(&fault.because)
        )
    }));
    if listing.unreadable > FAULTS_SHOWN as u64 {
        lines.push(format!(
            "UNREADABLE: {} in all",
            counted(listing.unreadable, "manifest")
        ));
    }
    if listing.older > 0 {
        lines.push(format!(
            "{} not shown: see --limit and --at",
            counted(listing.older, "older one")
        ));
    }
    if let Some(why) = &listing.stopped_because {
        lines.push(format!(
            "NOT ALL: the store stopped returning manifests, and the rest were not read: {}",
            printable(why)
        ));
    }
    lines.join("\n")
}

/// Returns the message for a list in which no point matches.
fn nothing(listing: &Listing) -> String {
    let asked = "no readable restore point matches";
    if listing.later > 0 {
        format!("{asked}; later than --at: {}", listing.later)
    } else {
        asked.to_owned()
    }
}

/// Returns whose the points are, if some were made by an installation other than the store's.
fn about_installations(listing: &Listing) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(why) = &listing.unidentified_because {
        lines.push(format!(
            "NO IDENTITY: it is unknown whose store this is: {}",
            printable(why)
        ));
    }
    lines.extend(listing.other_installations.iter().map(|(other, points)| {
        let own = match listing.installation {
            Some(own) => format!("the store belongs to installation {own}"),
            None => "the store does not say whose it is".to_owned(),
        };
        let points = counted(*points, "restore point");
        format!("INSTALLATION: {points} of installation {other}, and {own}")
    }));
    lines
}

/// Returns what to expect of a restore from the point.
fn state(point: &Listed) -> String {
    let mut words = vec![completeness(point).to_owned()];
    if let Some(reasons) = &point.suspected_of {
        let mut reasons: Vec<&str> = reasons.iter().map(|it| it.as_str()).collect();
        reasons.dedup();
        words.push(format!("SUSPECT ({})", reasons.join(", ")));
    }
    // Of a suspect point that is complete, only the worse is printed, as in a list from the catalog.
    if words.len() > 1 && point.is_complete == Some(true) {
        words.remove(0);
    }
    if point.encryption.is_some() {
        words.push("encrypted".to_owned());
    }
    if point.is_other_installation {
        words.push("OTHER INSTALLATION".to_owned());
    }
    words.join(", ")
}

fn completeness(point: &Listed) -> &'static str {
    match point.is_complete {
        Some(true) => "stored",
        Some(false) => "INCOMPLETE",
        None => "UNKNOWN",
    }
}

fn size(count: u64) -> String {
    bytes(i64::try_from(count).unwrap_or(i64::MAX))
}
