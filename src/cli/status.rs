//! `lastgood status`: exposure against the promise, worst first, and whatever needs attention.

mod infeasible;
mod stores_of;
mod unopened;
mod unproven;

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use lastgood_jobs::restore::to_open_by_hand;
use serde::Serialize;

use super::{
    output::{Output, counted, instant, instant_or_dash, printable, span, table},
    queue::described,
};
use crate::{
    catalog::{
        Catalog, MissingCopies, ProofCount, Removals, StoreListing, StoreOnRecord, SuspectCount,
        UnopenedUrl, UnprovenCount, UnverifiedTransport,
    },
    config::{self, PlansArgs, VerificationArgs},
    master,
    nouns::{
        ClosedDatabase, Consumer, InfeasiblePromise, PauseCost, QuarantinedPoint, QueueDepth,
        StoreFault, StuckRun, SuspectPoint, Suspended, UnknownTier,
    },
    plan::PlansFile,
    rto::Rto,
    schedule::Exposure,
    status::{PATIENCE_SECONDS, ResourcePromise, TierStatus, exposed, paid},
    stores::{self, StorageArgs},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    plans: PlansArgs,
    #[command(flatten)]
    verification: VerificationArgs,
    #[command(flatten)]
    storage: StorageArgs,
    /// Show at most this many resources
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..))]
    limit: i64,
    /// End with exit code 1 if a promise is broken, a tier is unknown, a run is stuck, a restore left a database closed, nobody can
    /// open a sealed URL, a damaged restore point is not replaced, a newest one is suspect, a verification or a drill is overdue, a drill found a point wanting,
    /// a restore takes longer than is promised, a store is gone,
    /// exchanged, emptied or cannot be listed, or no consumer takes new runs
    #[arg(long)]
    check: bool,
}

#[derive(Serialize)]
struct Status {
    at: DateTime<Utc>,
    plans: &'static str,
    tiers: Vec<TierStatus>,
    resources: Vec<ResourcePromise>,
    infeasible: Vec<InfeasiblePromise>,
    suspended: Suspended,
    unknown_tiers: Vec<UnknownTier>,
    queue: Vec<QueueDepth>,
    pauses: Vec<PauseCost>,
    stuck: Vec<StuckRun>,
    proofs: Vec<ProofCount>,
    /// What no drill has proven.
    unproven: Vec<UnprovenCount>,
    quarantined: Vec<QuarantinedPoint>,
    closed_databases: Vec<ClosedDatabase>,
    suspect_counts: Vec<SuspectCount>,
    suspects: Vec<SuspectPoint>,
    removals: Removals,
    copies: Vec<MissingCopies>,
    unknown_stores: Vec<StoreOnRecord>,
    store_faults: Vec<StoreFault>,
    overwriting_stores: Vec<String>,
    stores: Vec<StoreListing>,
    consumers: Vec<Consumer>,
    encryption: &'static str,
    unverified: Vec<UnverifiedTransport>,
    unverified_in_all: i64,
    unopened_urls: Vec<UnopenedUrl>,
    unopened_urls_in_all: i64,
    /// What keeps the catalog, through this connection, from working as it must.
    catalog_faults: Vec<&'static str>,
}

pub(super) async fn run(args: &Args, output: &Output) -> anyhow::Result<ExitCode> {
    let file = PlansFile::load(&args.plans.plans);
    if let Some(fault) = file.fault() {
        output.note(&format!("{fault}\nthe built-in plans are shown instead"));
    }
    let status = collect(&super::catalog().await?, &file, args).await?;
    output.show(&status, text)?;
    Ok(if args.check && !status.is_as_promised() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

impl Status {
    fn is_as_promised(&self) -> bool {
        self.tiers.iter().all(|tier| tier.broken == 0)
            && self.unknown_tiers.is_empty()
            && self.stuck.is_empty()
            && self.closed_databases.is_empty()
            && self.store_faults.is_empty()
            && self
                .proofs
                .iter()
                .all(|count| count.unreplaced + count.overdue == 0)
            && self
                .unproven
                .iter()
                .all(|count| count.overdue + count.wanting == 0)
            && !self
                .resources
                .iter()
                .any(|row| row.rto == Some(Rto::Broken))
            && !self.stores.iter().any(StoreListing::is_alarming)
            && self.suspect_counts.iter().all(|count| count.resources == 0)
            && self.unopened_urls_in_all == 0
            && self.taking_new() > 0
            && self.catalog_faults.is_empty()
    }

    /// Returns how many consumers take new runs. A draining consumer is alive, but takes none.
    fn taking_new(&self) -> usize {
        self.consumers.iter().filter(|it| it.takes_new()).count()
    }
}

async fn collect(catalog: &Catalog, file: &PlansFile, args: &Args) -> anyhow::Result<Status> {
    let limit = args.limit;
    let (primary, mirrors) = stores::names(&args.storage)?;
    let stores: Vec<_> = std::iter::once(primary).chain(mirrors).collect();
    let at = catalog.now().await?;
    let plans = file.plans();
    let known: Vec<_> = plans.iter().map(|plan| plan.tier.to_string()).collect();
    let (paid, allowed) = paid(plans);
    let (drilled, days) = plans.drilled();
    let (unverified, unverified_in_all) = catalog.unverified_transports(limit).await?;
    // The status needs no key, so an unreadable one is ignored here. The doctor reports it.
    let keys = config::master_keys().ok().flatten();
    let nobody_has = master::nobody_has(catalog, keys.as_ref()).await?;
    let (unopened_urls, unopened_urls_in_all) =
        catalog.urls_sealed_under(&nobody_has, limit).await?;
    let exposed = exposed(catalog, plans, None, at, limit).await?;
    Ok(Status {
        at,
        plans: file.source().into(),
        tiers: exposed.tiers,
        resources: exposed.resources,
        infeasible: exposed.infeasible,
        suspended: exposed.suspended,
        unknown_tiers: catalog.unknown_tiers(&known).await?,
        queue: catalog.queue_depths().await?,
        pauses: catalog.pause_costs(&paid, &allowed).await?,
        stuck: catalog.stuck_runs(PATIENCE_SECONDS).await?,
        proofs: catalog.proof_counts(args.verification.within()).await?,
        unproven: catalog.unproven_counts(&drilled, &days).await?,
        quarantined: catalog.quarantined(limit).await?,
        closed_databases: catalog.closed_databases(None).await?,
        suspect_counts: catalog.suspect_counts().await?,
        suspects: catalog.suspects(limit).await?,
        removals: catalog.removals().await?,
        copies: catalog.missing_copies(&stores).await?,
        unknown_stores: catalog.unknown_stores(&stores).await?,
        store_faults: catalog.store_faults().await?,
        overwriting_stores: catalog
            .store_identities()
            .await?
            .into_iter()
            .filter(|store| !store.writes_once && stores.contains(&store.name))
            .map(|store| store.name)
            .collect(),
        stores: catalog.store_listings(&stores).await?,
        consumers: catalog.live_consumers().await?,
        encryption: encryption(catalog).await?,
        unverified,
        unverified_in_all,
        unopened_urls,
        unopened_urls_in_all,
        catalog_faults: catalog.faults().await?,
    })
}

/// Returns whose new archives are encrypted.
async fn encryption(catalog: &Catalog) -> anyhow::Result<&'static str> {
    let in_use: Vec<_> = catalog.keys().await?;
    let mut in_use = in_use.iter().filter(|key| key.retired_at.is_none());
    Ok(match in_use.next() {
        None => "none",
        Some(first) if first.team.is_none() => "all",
        Some(_) => "some_teams",
    })
}

/// Names the resources whose servers are reached without proof of their identity.
fn not_verified(status: &Status) -> Option<String> {
    let named: Vec<_> = status
        .unverified
        .iter()
        .map(|it| printable(&it.resource))
        .collect();
    (!named.is_empty()).then(|| {
        format!(
            "UNVERIFIED TRANSPORT: {} resources are reached without proof of their servers' identity ({}): `lastgood doctor` says why, \
             docs/explanation/transport.md what to do",
            status.unverified_in_all,
            named.join(", ")
        )
    })
}

/// Describes a database that no one can connect to.
fn closed(it: &ClosedDatabase) -> String {
    let error = it.error.as_deref().map_or_else(String::new, |error| {
        format!("\n  it could not be opened: {}", printable(error))
    });
    format!(
        "CLOSED: database {} of {} has taken no connections since {}; it was left closed by restore {}: a consumer opens it; by hand: `{}`{error}",
        printable(&it.database),
        it.resource,
        instant(it.closed_at),
        it.run,
        printable(&to_open_by_hand(&it.database)),
    )
}

/// Returns what a pause covers and which promises it costs.
fn paused(cost: &PauseCost) -> String {
    let next = cost.next_break_at.map_or_else(String::new, |at| {
        format!(", the next promise breaks at {}", instant(at))
    });
    format!(
        "PAUSED: {}\n  it holds up {} protected resources: {} promises have broken since, {} break within the hour{next}",
        described(&cost.pause),
        cost.resources,
        cost.broken,
        cost.breaking
    )
}

#[expect(clippy::too_many_lines, reason = "one list of parts, in their order")]
fn text(status: &Status) -> String {
    let mut parts = vec![tiers(status), resources(status)];
    parts.extend(status.closed_databases.iter().map(closed));
    parts.extend(infeasible::told(status));
    parts.extend(unopened::told(status));
    let faults = status.catalog_faults.iter();
    parts.extend(faults.map(|fault| format!("CATALOG: {fault}")));
    parts.extend(status.stores.iter().filter_map(stores_of::not_there));
    parts.extend(status.unknown_tiers.iter().map(|tier| {
        format!(
            "UNKNOWN TIER {:?}: {} resources are not backed up; add the tier to the plans",
            tier.id, tier.resources
        )
    }));
    for (count, how) in [
        (
            status.suspended.paused,
            "paused: `lastgood resource resume`",
        ),
        (status.suspended.vetoed, "vetoed by their own retention"),
    ] {
        if count > 0 {
            parts.push(format!("NOT BACKED UP: {count} resources are {how}"));
        }
    }
    match status.encryption {
        "all" => {}
        "none" => parts.push(
            "NOT ENCRYPTED: there is no key for archives: `lastgood key create --platform`".to_owned(),
        ),
        _ => parts.push(
            "NOT ENCRYPTED: archives of teams without a key of their own: `lastgood key create --platform`"
                .to_owned(),
        ),
    }
    parts.extend(not_verified(status));
    parts.extend(status.resources.iter().filter(|row| row.is_of_no_instant()).map(|row| {
        format!(
            "NOT POINT-IN-TIME: the newest restore point of {}: its server was read while others wrote; its warnings say why: `lastgood point list {}`, `lastgood point show ID`",
            row.id, row.id
        )
    }));
    for (count, what) in [
        (
            status.removals.overdue,
            "expired restore points have waited for removal for more than a day: `lastgood run list --state failed`",
        ),
        (
            status.removals.refused,
            "expired restore points stay because their store refuses to remove them; it is asked again each week: `lastgood retention plan`",
        ),
    ] {
        if count > 0 {
            parts.push(format!("NOT REMOVED: {count} {what}"));
        }
    }
    parts.extend(status.copies.iter().filter_map(stores_of::not_copied));
    parts.extend(status.unknown_stores.iter().map(stores_of::not_configured));
    parts.extend(status.store_faults.iter().map(|fault| {
        format!(
            "STORE FAILS: {} cannot be used by {}, since {}: {}",
            printable(&fault.store),
            counted(fault.consumers, "consumer"),
            instant(fault.failed_at),
            printable(&fault.failed_because)
        )
    }));
    parts.extend(status.overwriting_stores.iter().map(|store| {
        format!(
            "NOT WRITE-ONCE: store {} overwrites objects that must be written once, and that was accepted (`write_once: false`): two attempts \
             of one run may replace each other's manifest",
            printable(store)
        )
    }));
    parts.push(consumers(status));
    parts.extend(
        status
            .queue
            .iter()
            .map(|depth| format!("queue {}: {} {}", depth.engine, depth.runs, depth.state)),
    );
    parts.extend(status.pauses.iter().map(paused));
    parts.extend(status.stuck.iter().map(|run| {
        format!(
            "STUCK: {} {} of {}, {} since {}",
            run.kind,
            run.id,
            run.resource,
            run.state,
            instant(run.stuck_at)
        )
    }));
    parts.extend(status.quarantined.iter().map(|point| {
        format!(
            "QUARANTINED: restore point {} of {} ({}), since {}: {}",
            point.id,
            point.resource,
            instant(point.consistent_at),
            instant(point.quarantined_at),
            printable(&point.quarantined_because)
        )
    }));
    parts.extend(status.suspects.iter().map(suspect));
    if let Some((count, points)) = shown(status) {
        parts.push(format!(
            "SUSPECT: {count} restore points in all, {points} of them shown here"
        ));
    }
    parts.extend(
        status
            .proofs
            .iter()
            .filter(|count| count.overdue > 0)
            .map(|count| {
                format!(
                    "NOT VERIFIED: {} restore points of {} were not read back in time (--verify-within)",
                    count.overdue, count.engine
                )
            }),
    );
    parts.extend(unproven::told(status));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

/// Describes a suspect point and what somebody has to do about it.
fn suspect(point: &SuspectPoint) -> String {
    let then = if point.is_newest {
        "nothing newer counts: its exposure grows"
    } else {
        "a newer one counts"
    };
    format!(
        "SUSPECT: restore point {} of {} ({}), {}: {}; {then}; `lastgood point confirm {} --reason …` if it is right",
        point.id,
        point.resource,
        instant(point.consistent_at),
        point.suspected_of.join(", "),
        printable(&point.suspected_because),
        point.id
    )
}

/// Returns how many suspect points there are and how many are shown, if not all are.
fn shown(status: &Status) -> Option<(i64, usize)> {
    let all: i64 = status.suspect_counts.iter().map(|count| count.points).sum();
    let shown = status.suspects.len();
    (all > i64::try_from(shown).unwrap_or(i64::MAX)).then_some((all, shown))
}

fn consumers(status: &Status) -> String {
    let alive = status.taking_new();
    let draining = status.consumers.len() - alive;
    match (alive, draining) {
        (0, 0) => "NO LIVE CONSUMER: nothing is executed".to_owned(),
        (0, _) => format!("NO LIVE CONSUMER: nothing new is executed, {draining} are draining"),
        (_, 0) => format!("live consumers: {alive}"),
        (_, _) => format!("live consumers: {alive}, and {draining} draining"),
    }
}

fn tiers(status: &Status) -> String {
    if status.tiers.is_empty() {
        return "no resource is on a tier that is backed up".to_owned();
    }
    table(
        [
            "tier",
            "rpo",
            "hold",
            "resources",
            "worst exposure",
            "never backed up",
            "broken",
        ],
        status.tiers.iter().map(|tier| {
            [
                tier.id.clone(),
                span(chrono::TimeDelta::minutes(tier.rpo_minutes.into())),
                tier.hold.to_string(),
                tier.resources.to_string(),
                span(chrono::TimeDelta::seconds(tier.worst_exposure_seconds)),
                tier.never_backed_up.to_string(),
                tier.broken.to_string(),
            ]
        }),
    )
}

fn resources(status: &Status) -> String {
    if status.resources.is_empty() {
        return String::new();
    }
    table(
        [
            "resource",
            "team",
            "tier",
            "engine",
            "exposure",
            "promise",
            "newest restore point",
            "next due",
            "failures",
        ],
        status.resources.iter().map(|row| {
            let exposed = span(chrono::TimeDelta::seconds(row.exposure_seconds));
            [
                row.id.clone(),
                row.team.clone(),
                row.tier.clone(),
                row.engine.clone(),
                match row.exposed() {
                    Exposure::Never(_) => format!("everything ({exposed})"),
                    Exposure::Age(_) => exposed,
                },
                match row.promise {
                    "broken" => "BROKEN",
                    kept_or_late => kept_or_late,
                }
                .to_owned(),
                instant_or_dash(row.newest_consistent_at),
                instant_or_dash(row.next_due_at),
                row.failures_in_a_row.to_string(),
            ]
        }),
    )
}
