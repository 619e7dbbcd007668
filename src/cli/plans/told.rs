//! A forecast as text: changes first, then what breaks, then what it takes.

use chrono::TimeDelta;

use super::simulate::{Simulated, resources};
use crate::{
    cli::output::{bytes, printable, span, table},
    planner::{Change, EngineNow, FieldChange, Month, Outlook, TierChange},
};

pub(super) fn text(simulated: &Simulated) -> String {
    let forecast = &simulated.forecast;
    let mut parts = vec![heading(simulated)];
    parts.extend(simulated.changes.iter().map(change));
    if forecast.unplanned > 0 {
        parts.push(format!(
            "UNKNOWN TIER: {} on tiers that these plans do not name: not backed up",
            resources(forecast.unplanned)
        ));
    }
    parts.extend(without_history(simulated));
    parts.push(engines(&forecast.engines));
    parts.extend(forecast.engines.iter().map(hours));
    parts.push(months(&forecast.months));
    parts.extend(forecast.promises.iter().map(outlook));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn heading(simulated: &Simulated) -> String {
    let file = match &simulated.file {
        Some(file) => printable(&file.display().to_string()),
        None => "the plans in force".to_owned(),
    };
    let growth = match &simulated.growth {
        Some(rate) => format!("{rate} of growth"),
        None => "each resource's own trend".to_owned(),
    };
    format!(
        "{file}: {} simulated for one day now and one day in each of the next 12 months of 30 days, with {growth}",
        resources(simulated.forecast.resources)
    )
}

fn change(change: &TierChange) -> String {
    let (tier, count) = (printable(&change.tier), resources(change.resources));
    match change.change {
        Change::Added => format!("ADDED: tier {tier}, {count}"),
        Change::Removed if change.resources == 0 => format!("REMOVED: tier {tier}, {count}"),
        Change::Removed => format!("REMOVED: tier {tier}, {count}: not backed up any more"),
        Change::Changed => {
            let fields: Vec<_> = change.fields.iter().map(field).collect();
            format!("CHANGED: tier {tier}, {count}: {}", fields.join(", "))
        }
    }
}

fn field(field: &FieldChange) -> String {
    let shown = |value: &serde_json::Value| {
        let text = value.as_str().map(str::to_owned);
        printable(&text.unwrap_or_else(|| value.to_string()))
    };
    format!(
        "{} {} → {}",
        field.field,
        shown(&field.before),
        shown(&field.after)
    )
}

fn without_history(simulated: &Simulated) -> Option<String> {
    let without = &simulated.forecast.without_history;
    if without.resources == 0 {
        return None;
    }
    let named: Vec<_> = without
        .named
        .iter()
        .map(|it| printable(&it.resource))
        .collect();
    let more = if without.named.len() < without.resources {
        ", …"
    } else {
        ""
    };
    let assumed = if without.left_out == 0 {
        "taken for typical of the tier".to_owned()
    } else {
        format!(
            "{} left out, for there is nothing to go by",
            without.left_out
        )
    };
    Some(format!(
        "NO HISTORY: {} without a backup on record, {assumed}: {}{more}",
        resources(without.resources),
        named.join(", ")
    ))
}

fn engines(engines: &[EngineNow]) -> String {
    table(
        [
            "engine",
            "resources",
            "slots",
            "busiest hour",
            "peak",
            "wait p50",
            "p95",
            "p99",
        ],
        engines.iter().map(|it| {
            let busiest = it
                .hours
                .iter()
                .max_by(|a, b| a.busy_slots.total_cmp(&b.busy_slots));
            let peak = it.hours.iter().map(|hour| hour.peak_slots).max();
            [
                it.engine.to_owned(),
                it.resources.to_string(),
                it.slots.to_string(),
                busiest.map_or_else(String::new, |hour| {
                    format!("{:02}h: {:.1} slots", hour.hour, hour.busy_slots)
                }),
                peak.unwrap_or_default().to_string(),
                seconds(it.wait_seconds.p50.into()),
                seconds(it.wait_seconds.p95.into()),
                seconds(it.wait_seconds.p99.into()),
            ]
        }),
    )
}

/// Shows what the hours of the day need, where they differ.
fn hours(engine: &EngineNow) -> String {
    let least = engine
        .hours
        .iter()
        .map(|hour| hour.busy_slots)
        .fold(f64::MAX, f64::min);
    let most = engine
        .hours
        .iter()
        .map(|hour| hour.busy_slots)
        .fold(0.0, f64::max);
    if most - least < 0.5 {
        return String::new();
    }
    let shown: Vec<_> = engine
        .hours
        .iter()
        .map(|hour| format!("{:02}h {:.1}", hour.hour, hour.busy_slots))
        .collect();
    format!("{} by hour (UTC): {}", engine.engine, shown.join(", "))
}

fn months(months: &[Month]) -> String {
    table(
        [
            "after",
            "not kept",
            "wait p99",
            "busiest hour",
            "stored",
            "cost a month",
        ],
        months.iter().map(|month| {
            let wait = month.engines.iter().map(|it| it.wait_seconds.p99).max();
            let busiest = month
                .engines
                .iter()
                .map(|it| it.busiest_hour_slots)
                .sum::<f64>();
            [
                format!("{} days", month.days),
                month.broken.to_string(),
                seconds(wait.unwrap_or_default().into()),
                format!("{busiest:.1} slots"),
                bytes(i64::try_from(month.stored_bytes).unwrap_or(i64::MAX)),
                month
                    .cost_per_month
                    .map_or_else(|| "-".to_owned(), |cost| format!("{cost:.2}")),
            ]
        }),
    )
}

fn outlook(outlook: &Outlook) -> String {
    let when = match outlook.days {
        0 => "now".to_owned(),
        days => format!("in {days} days"),
    };
    if outlook.broken_at_most == 0 {
        return format!("KEPT {when}: every promise");
    }
    let range = if outlook.broken_at_least == outlook.broken_at_most {
        String::new()
    } else {
        format!(
            " ({} to {})",
            outlook.broken_at_least, outlook.broken_at_most
        )
    };
    let mut lines = vec![format!(
        "NOT KEPT {when}: {}{range}",
        resources(outlook.broken)
    )];
    lines.extend(outlook.resources.iter().map(|it| {
        let takes = it.takes_seconds;
        let range = if takes.low == takes.high {
            String::new()
        } else {
            format!(" ({} to {})", seconds(takes.low), seconds(takes.high))
        };
        format!(
            "  {} ({}): RPO {}, exposure {}, a backup takes {}{range}: {}",
            printable(&it.resource),
            printable(&it.tier),
            span(TimeDelta::minutes(it.rpo_minutes.into())),
            exposure(it.exposure_seconds),
            seconds(takes.estimate),
            it.broken_because
        )
    }));
    if outlook.resources.len() < outlook.broken {
        lines.push(format!(
            "  … and {} more",
            outlook.broken - outlook.resources.len()
        ));
    }
    lines.join("\n")
}

/// Returns an exposure to the second, for it may pass its RPO by some of them.
fn exposure(seconds: i64) -> String {
    match seconds {
        36_000.. => span(TimeDelta::seconds(seconds)),
        seconds => format!("{}m {:02}s", seconds / 60, seconds % 60),
    }
}

fn seconds(seconds: i64) -> String {
    span(TimeDelta::seconds(seconds))
}
