//! How were the promises kept? Counts each day of each resource from the facts on record, a batch at a time.

mod due;

use std::time::Duration;

use futures::FutureExt as _;
use lastgood_jobs::error::chain;
use tokio::{sync::watch, time::MissedTickBehavior};

use self::due::due;
use super::TOLD_WITHIN;
use crate::{
    catalog::{Catalog, CatalogError, DayPass, DayRow, Recount, Work, answered, leave_out},
    metrics,
    plan::Plans,
    promise::{Day, Fleet, Span, figures, timeline},
    status::paid,
};

/// How often it looks whether there is something to count.
const EVERY: Duration = Duration::from_mins(1);
/// The length of a leader's lease: after this, another producer takes over from one that died.
const LEASE: Duration = Duration::from_mins(4);
/// The time limit of each step: a connection can hang without an error.
const COUNT_WITHIN: Duration = Duration::from_mins(5);
/// Resources per batch: so few that a batch is quick and needs little memory.
const BATCH: i64 = 1000;
/// Batches per look. A fleet of a million is counted in twenty looks.
const BATCHES: usize = 50;
/// Resources per look whose past is counted anew.
const RECOUNTED: i64 = 1000;
/// Rows of each kind that are removed per look.
const PRUNED: i64 = 10_000;

/// The plans whose promises were recorded last.
#[derive(Default)]
pub(super) struct Recorded(Option<Plans>);

impl Recorded {
    /// Records that this producer ticks, and what the operator's own plans promise, unless that was recorded last time.
    pub(super) async fn tell(&mut self, catalog: &Catalog, tick: Duration, own: Option<Plans>) {
        if let Err(error) = answered(TOLD_WITHIN, catalog.heartbeat(tick)).await {
            tracing::warn!(
                error = chain(&error),
                "cannot record that a producer ticks: the time counts as without one"
            );
        }
        let Some(plans) = own.filter(|own| self.0.as_ref() != Some(own)) else {
            return;
        };
        match answered(TOLD_WITHIN, catalog.record_terms(&plans)).await {
            Ok(()) => self.0 = Some(plans),
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot record what is promised");
            }
        }
    }
}

/// Counts, as long as this producer leads; never returns. `plans` holds the operator's own plans.
pub(super) async fn count_for_ever(
    catalog: Catalog,
    id: String,
    plans: watch::Receiver<Option<Plans>>,
) {
    let mut timer = tokio::time::interval(EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let in_force = plans.borrow().clone();
        // Without its plans file a producer does not know what is promised now: another one counts, or this one later.
        let Some(in_force) = in_force else {
            continue;
        };
        let leading = catalog.leads(Work::Promise, &id, LEASE);
        match answered(TOLD_WITHIN, leading).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "cannot tell which producer counts how promises were kept"
                );
                continue;
            }
        }
        let (tiers, allowed) = paid(&in_force);
        let counting = catalog.count_slice(&tiers, &allowed);
        report("the last minutes", answered(COUNT_WITHIN, counting).await);
        let counting = count_promises(&catalog);
        report("a day", answered(COUNT_WITHIN, counting).await);
        let counting = recount_promises(&catalog);
        report("the past anew", answered(COUNT_WITHIN, counting).await);
        let pruning = catalog.prune_promises(PRUNED);
        if let Err(error) = answered(COUNT_WITHIN, pruning).await {
            tracing::warn!(
                error = chain(&error),
                "cannot remove old figures of promises"
            );
        }
    }
}

fn report<T>(what: &str, counted: Result<T, CatalogError>) {
    if let Err(error) = counted {
        tracing::warn!(
            error = chain(&error),
            "cannot count {what}: how promises were kept is shown late"
        );
    }
}

/// Counts the next resources of the day that is due, if one is. Returns how many resources were looked at.
///
/// Any number of producers may do this at once. Each may end anywhere: the next one goes on where it was.
pub async fn count_promises(catalog: &Catalog) -> Result<usize, CatalogError> {
    let (newest, since) = catalog.newest_pass().await?;
    let now = catalog.now().await?;
    if let Some(begin) = due(newest.as_ref(), since, now) {
        catalog
            .begin_pass(begin.day, begin.until, begin.is_final)
            .await?;
    }
    let (Some(mut pass), _) = catalog.newest_pass().await? else {
        return Ok(0);
    };
    if pass.ended_at.is_some() {
        return Ok(0);
    }
    let (day, span) = (Day(pass.day), span_of(&pass));
    let fleet = catalog.promise_fleet(span).await?;
    let mut looked_at = 0;
    for _ in 0..BATCHES {
        let resources = catalog.resources_after(&pass.after, BATCH).await?;
        let Some(last) = resources.last().cloned() else {
            catalog.write_totals(day, None).await?;
            catalog.go_on_with_pass(&pass, None).await?;
            break;
        };
        looked_at += resources.len();
        count_those(catalog, &fleet, day, span, resources).await?;
        catalog.go_on_with_pass(&pass, Some(&last)).await?;
        pass.after = last;
    }
    Ok(looked_at)
}

fn span_of(pass: &DayPass) -> Span {
    Span {
        from: Day(pass.day).begin(),
        until: pass.until,
    }
}

/// Counts the days again of resources of whose past something came to light. Returns how many resources these are.
pub async fn recount_promises(catalog: &Catalog) -> Result<usize, CatalogError> {
    let marked = catalog.recounts(RECOUNTED).await?;
    let (Some(newest), _) = catalog.newest_pass().await? else {
        return Ok(0);
    };
    // What is counted so far is counted anew before long.
    let last = if newest.is_final {
        Day(newest.day)
    } else {
        Day(newest.day).back(1)
    };
    let Some(first) = marked.iter().map(|it| Day(it.day)).min() else {
        return Ok(0);
    };
    let mut day = first;
    while day <= last {
        let concerns = |it: &&Recount| Day(it.day) <= day;
        let resources: Vec<_> = marked
            .iter()
            .filter(concerns)
            .map(|it| it.resource_id.clone())
            .collect();
        recount_day(catalog, day, resources).await?;
        day = day.next();
    }
    catalog.recounted(&marked).await?;
    Ok(marked.len())
}

async fn recount_day(
    catalog: &Catalog,
    day: Day,
    resources: Vec<String>,
) -> Result<(), CatalogError> {
    let span = day.span();
    let fleet = catalog.promise_fleet(span).await?;
    let mut teams = catalog.teams_of_day(day, &resources).await?;
    count_those(catalog, &fleet, day, span, resources.clone()).await?;
    teams.extend(catalog.teams_of_day(day, &resources).await?);
    catalog.write_totals(day, Some(&teams)).await
}

/// Counts some resources' day. One whose rows the catalog refuses keeps no other from being counted.
async fn count_those(
    catalog: &Catalog,
    fleet: &Fleet,
    day: Day,
    span: Span,
    resources: Vec<String>,
) -> Result<(), CatalogError> {
    let count = |ids: Vec<String>| count_batch(catalog, fleet, day, span, ids).boxed();
    let (_, refused) = leave_out(resources, count).await?;
    metrics::rows_left_out("promise", refused.len() as u64);
    for (resource, error) in refused {
        tracing::error!(resource.id = %resource, error = chain(&error), "the catalog refuses how this resource's promise was kept: the day is missing for it");
    }
    Ok(())
}

async fn count_batch(
    catalog: &Catalog,
    fleet: &Fleet,
    day: Day,
    span: Span,
    resources: Vec<String>,
) -> Result<(), CatalogError> {
    let records = catalog.promise_records(&resources, span).await?;
    let mut rows = Vec::new();
    for (resource, record) in &records {
        for (holder, figures) in figures(&timeline(fleet, record, span)) {
            rows.push(DayRow {
                resource: resource.clone(),
                team: holder.team.to_owned(),
                tier: holder.tier.to_owned(),
                figures,
            });
        }
    }
    catalog.write_days(day, &resources, &rows).await
}
