//! How were the promises kept, against their objectives? For the command line and the HTTP API.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::{
    catalog::{Catalog, CatalogError, Kept, KeptFilter, KeptOfResource},
    nouns::{BrokenTime, KeptPromise, PromiseReport, PromiseStatement},
    plan::{Objective, Plans},
    promise::{Day, Month, Span, breaches, timeline},
};

/// The days of a report, unless others are asked for: those of an objective.
const DAYS: u64 = 30;
/// How many days back facts are on record in full.
const FACTS_DAYS: u64 = 7;
/// The most tiers in a report.
const MOST_TIERS: i64 = 1000;
/// The most resources in a statement.
const MOST_BROKEN: i64 = 1000;

/// Which part of the record is asked for. `None` is any.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The first day; 29 days before the last without.
    pub from: Option<NaiveDate>,
    /// The last day; today without.
    pub to: Option<NaiveDate>,
    /// One team's.
    pub team: Option<String>,
    /// Those of one tier.
    pub tier: Option<String>,
    /// That of one resource.
    pub resource: Option<String>,
    /// The most teams and resources to list.
    pub limit: i64,
}

/// Returns a report of nothing, for whoever asks about what there is not, or may not see it.
pub async fn nothing(catalog: &Catalog, asked: &Asked) -> Result<PromiseReport, CatalogError> {
    let at = catalog.now().await?;
    let (from, to) = asked.days(at);
    Ok(PromiseReport {
        at,
        from: from.0,
        to: to.0,
        counted_until: None,
        tiers: Vec::new(),
        teams: Vec::new(),
        resources: Vec::new(),
        breaches: asked.resource.as_ref().map(|_| Vec::new()),
    })
}

impl Asked {
    /// Returns the first and the last day.
    fn days(&self, now: DateTime<Utc>) -> (Day, Day) {
        let to = self.to.map_or_else(|| Day::of(now), Day);
        let from = self.from.map_or_else(|| to.back(DAYS - 1), Day);
        (from, to)
    }
}

/// Returns how the promises were kept.
pub async fn report(
    catalog: &Catalog,
    plans: &Plans,
    asked: &Asked,
) -> Result<PromiseReport, CatalogError> {
    let at = catalog.now().await?;
    let (from, to) = asked.days(at);
    let filter = KeptFilter {
        from: from.0,
        to: to.0,
        team: asked.team.as_deref(),
        tier: asked.tier.as_deref(),
    };
    let (tiers, teams, resources, breaches) = match &asked.resource {
        None => (
            catalog.kept(&filter, false, MOST_TIERS).await?,
            catalog.kept(&filter, true, asked.limit).await?,
            catalog.worst_kept(&filter, asked.limit).await?,
            None,
        ),
        Some(resource) => (
            Vec::new(),
            Vec::new(),
            catalog.kept_of(resource, &filter).await?,
            Some(broken_times(catalog, resource, &filter, at).await?),
        ),
    };
    let of = |kept: Kept| promise(plans, None, kept);
    Ok(PromiseReport {
        at,
        from: from.0,
        to: to.0,
        counted_until: catalog.counted_until(from.0, to.0).await?,
        tiers: tiers.into_iter().map(of).collect(),
        teams: teams.into_iter().map(of).collect(),
        resources: of_resources(plans, resources),
        breaches,
    })
}

/// Returns how the promises to one team were kept in a month. It is what a signed statement signs.
pub async fn statement(
    catalog: &Catalog,
    plans: &Plans,
    team: &str,
    month: Month,
) -> Result<PromiseStatement, CatalogError> {
    let filter = KeptFilter {
        from: month.first().0,
        to: month.last().0,
        team: Some(team),
        tier: None,
    };
    let tiers = catalog.kept(&filter, true, MOST_TIERS).await?;
    let broken = catalog.worst_kept(&filter, MOST_BROKEN).await?;
    let days = (month.last().0 - month.first().0).num_days() + 1;
    let counted_days = catalog.days_counted(filter.from, filter.to).await?;
    Ok(PromiseStatement {
        version: 1,
        team: team.to_owned(),
        month: month.to_string(),
        at: catalog.now().await?,
        days,
        counted_days,
        is_complete: counted_days == days,
        tiers: tiers
            .into_iter()
            .map(|kept| promise(plans, None, kept))
            .collect(),
        broken: of_resources(plans, broken),
    })
}

/// Returns when a resource's promise was broken, as far back as the facts are on record.
async fn broken_times(
    catalog: &Catalog,
    resource: &str,
    filter: &KeptFilter<'_>,
    now: DateTime<Utc>,
) -> Result<Vec<BrokenTime>, CatalogError> {
    let span = Span {
        from: Day(filter.from).max(Day::of(now).back(FACTS_DAYS)).begin(),
        until: Day(filter.to).next().begin().min(now),
    };
    if span.from >= span.until {
        return Ok(Vec::new());
    }
    let fleet = catalog.promise_fleet(span).await?;
    let mut records = catalog
        .promise_records(&[resource.to_owned()], span)
        .await?;
    let Some(record) = records.remove(resource) else {
        return Ok(Vec::new());
    };
    let mut pieces = timeline(&fleet, &record, span);
    pieces.retain(|piece| {
        filter.team.is_none_or(|team| piece.change.team == team)
            && filter.tier.is_none_or(|tier| piece.change.tier == tier)
    });
    let broken = breaches(&pieces).into_iter().map(|breach| BrokenTime {
        broken_at: breach.from,
        ended_at: breach.until,
        worst_exposure_seconds: breach.worst.num_seconds(),
    });
    Ok(broken.collect())
}

fn of_resources(plans: &Plans, rows: Vec<KeptOfResource>) -> Vec<KeptPromise> {
    rows.into_iter()
        .map(|row| promise(plans, Some(row.resource), row.kept))
        .collect()
}

fn promise(plans: &Plans, resource: Option<String>, kept: Kept) -> KeptPromise {
    let plan = plans.iter().find(|plan| plan.tier.as_str() == kept.tier);
    let objective = plan.and_then(|plan| plan.objective);
    let share = share(kept.broken_seconds, kept.promised_seconds);
    let budget = objective.map(|objective| budget(objective, kept.promised_seconds));
    KeptPromise {
        tier: kept.tier,
        team: kept.team,
        resource,
        resources: kept.resources,
        promised_seconds: kept.promised_seconds,
        late_seconds: kept.late_seconds,
        broken_seconds: kept.broken_seconds,
        paused_seconds: kept.paused_seconds,
        down_seconds: kept.down_seconds,
        worst_exposure_seconds: kept.worst_exposure_seconds,
        attained_percent: share.map(|share| rounded(100.0 * (1.0 - share), 4)),
        objective_percent: objective.map(Objective::percent),
        is_attained: budget
            .filter(|_| share.is_some())
            .map(|budget| kept.broken_seconds <= budget),
        budget_seconds: budget,
        budget_left_seconds: budget.map(|budget| budget - kept.broken_seconds),
        burn_rate: objective
            .zip(share)
            .map(|(objective, share)| rounded(share / objective.allowed_share(), 3)),
    }
}

/// Returns for how many of the promised seconds the objective lets the promise be broken.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "what a fleet was promised in a year is far below 2^52 seconds"
)]
fn budget(objective: Objective, promised_seconds: i64) -> i64 {
    (promised_seconds as f64 * objective.allowed_share()).round() as i64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "what a fleet was promised in a year is far below 2^52 seconds"
)]
fn share(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn rounded(number: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (number * scale).round() / scale
}

/// How a tier's error budget does: what the gauges show.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Burn {
    /// The tier.
    pub tier: String,
    /// Which share of the promised time of 30 days the promise was not broken.
    pub attained: Option<f64>,
    /// Which share of the error budget is left; below 0 if more is spent. `None`: the tier has no objective.
    pub budget_left: Option<f64>,
    /// How many times as fast as the objective allows the budget was spent in the last hour. `None`: the tier has no objective.
    pub rate_1h: Option<f64>,
    /// The same for the last six hours.
    pub rate_6h: Option<f64>,
}

/// Returns how the error budget of each tier does that is backed up.
pub async fn burns(catalog: &Catalog, plans: &Plans) -> Result<Vec<Burn>, CatalogError> {
    let rates = catalog.promise_rates().await?;
    let burns = plans.paid().map(|(plan, _)| {
        let rate = rates.iter().find(|rate| rate.tier == plan.tier.as_str());
        let allowed = plan.objective.map(Objective::allowed_share);
        let over = |share: Option<f64>| allowed.map(|allowed| share.unwrap_or(0.0) / allowed);
        let broken = rate.and_then(|rate| {
            let promised = rate.promised_seconds.filter(|promised| *promised > 0.0)?;
            Some(rate.broken_seconds.unwrap_or(0.0) / promised)
        });
        Burn {
            tier: plan.tier.to_string(),
            attained: broken.map(|broken| 1.0 - broken),
            budget_left: over(broken).map(|spent| 1.0 - spent),
            rate_1h: over(rate.and_then(|rate| rate.share_1h)),
            rate_6h: over(rate.and_then(|rate| rate.share_6h)),
        }
    });
    Ok(burns.collect())
}

/// Refuses days of which there can be no report, in words for whoever asked.
pub fn checked(from: Option<NaiveDate>, to: Option<NaiveDate>) -> Result<(), String> {
    let first = NaiveDate::from_ymd_opt(2000, 1, 1);
    let last = NaiveDate::from_ymd_opt(9999, 12, 31);
    for day in [from, to].into_iter().flatten() {
        if Some(day) < first || Some(day) > last {
            return Err(format!(
                "{day} is not a day of this report: use 2000-01-01 or later"
            ));
        }
    }
    match (from, to) {
        (Some(from), Some(to)) if from > to => {
            Err(format!("from {from} to {to} is no time: exchange the two"))
        }
        (Some(from), Some(to)) if to - from > TimeDelta::days(400) => Err(format!(
            "from {from} to {to} is longer than figures are kept: ask for 400 days at most"
        )),
        _ => Ok(()),
    }
}
