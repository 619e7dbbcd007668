//! METRICS.md says of every metric what this room says of it. `make metrics` writes it anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
    sync::Mutex,
};

use anyhow::Result;
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};

use super::*;

/// Labels whose values are an operator's own, or are listed once at the top.
const OPEN_LABELS: [&str; 6] = ["engine", "route", "store", "team", "tier", "version"];

#[test]
fn metrics_md_says_what_is_recorded() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("METRICS.md");
    let text = document()?;
    if std::env::var_os("WRITE_METRICS_MD").is_some() {
        std::fs::write(&path, &text)?;
    }
    assert_eq!(
        std::fs::read_to_string(&path)?,
        text,
        "METRICS.md is not what src/metrics.rs says: run `make metrics`"
    );
    Ok(())
}

#[test]
fn every_metric_that_has_a_name_is_described() -> Result<()> {
    let listener = Listener::default();
    with_local_recorder(&listener, described::introduce);
    let described = listener.described.into_inner()?;
    for name in names() {
        assert!(described.contains_key(name), "{name} is not described");
    }
    assert_eq!(described.len(), names().count());
    Ok(())
}

/// The constants at the top of described.rs.
fn names() -> impl Iterator<Item = &'static str> {
    include_str!("described.rs")
        .lines()
        .filter(|line| line.starts_with("pub(super) const "))
        .filter_map(|line| line.split('"').nth(1))
        .filter(|name| name.starts_with("lastgood_"))
}

/// What a producer shows: what it primes, and one of each that comes with the first event.
fn producer() {
    prime_producer();
    prime_copies(std::iter::once(&"a mirror".to_owned()));
    ticked(Duration::ZERO, 0, 0, DateTime::UNIX_EPOCH);
    exposures(&["pro".to_owned()], &[]);
    suspended(&["pro".to_owned()], &[]);
    infeasible(&["pro".to_owned()], &[]);
    closed_databases(0);
    promises(&[], &Plans::built_in());
    let burn = crate::attained::Burn {
        tier: "pro".to_owned(),
        attained: Some(1.0),
        budget_left: Some(1.0),
        rate_1h: Some(0.0),
        rate_6h: Some(0.0),
    };
    burns(&[], &[burn]);
    unproven(&[]);
}

fn consumer() {
    prime_consumer();
    for kind in RunKind::ALL {
        for result in RunResult::ALL {
            run_ended("postgres", Some(*kind), result, Duration::ZERO);
        }
    }
}

fn api() {
    let operations =
        ["GET", "PUT", "POST", "PATCH", "DELETE"].map(|method| (method, "/a".to_owned()));
    prime_api(&operations);
    api_answered("GET", "/a", 200, Duration::ZERO);
}

fn document() -> Result<String> {
    let mut text = String::from(
        "# Metrics\n\n\
        Made from `src/metrics.rs` by `make metrics`; a test compares them. Names, labels and their values are added to, never changed.\n\n\
        `/metrics` of each producer, consumer and API serves them. Gauges come from producers and are about all of lastgood: with several\n\
        producers, take the `max`. Counters and histograms are of one process: take the `sum`. A counter is at zero from the start, so that\n\
        \"never\" is visible; histograms begin with the first event.\n\n\
        `engine` is `postgres`, `vector`, `mongodb` or `redis`, or `unknown` for any other; `tier` is a name of your plans;\n\
        `store` is a name of your stores file; `route` is a path of the API's document.\n\n\
        | metric | kind | labels | shown by | what it says |\n| --- | --- | --- | --- | --- |\n",
    );
    let listeners = [
        ("producer", producer as fn()),
        ("consumer", consumer),
        ("api", api),
    ]
    .map(|(who, record)| {
        let listener = Listener::default();
        with_local_recorder(&listener, || {
            described::introduce();
            record();
        });
        (who, listener)
    });
    let mut rows = BTreeMap::<String, Row>::new();
    for (who, listener) in listeners {
        let shown = listener.shown.into_inner()?;
        for (name, meaning) in listener.described.into_inner()? {
            let row = rows.entry(name.clone()).or_default();
            row.meaning = meaning;
            if let Some(labels) = shown.get(&name) {
                row.by.push(who);
                row.labels.extend(labels.clone());
            }
        }
    }
    for (name, row) in rows {
        let Row {
            meaning: Meaning { kind, unit, help },
            labels,
            by,
        } = row;
        assert!(
            !by.is_empty(),
            "{name} is shown by nobody: add what records it to this test"
        );
        let by = by.join(", ");
        let labels = labels
            .iter()
            .map(|(name, values)| label(name, values))
            .collect::<Vec<_>>()
            .join(" · ");
        writeln!(
            text,
            "| `{name}` | {kind}{unit} | {labels} | {by} | {help} |"
        )?;
    }
    Ok(text)
}

fn label(name: &str, values: &BTreeSet<String>) -> String {
    if OPEN_LABELS.contains(&name) {
        return format!("`{name}`");
    }
    let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
    format!("`{name}`: {}", values.join(", "))
}

#[derive(Default)]
struct Row {
    meaning: Meaning,
    labels: Labels,
    by: Vec<&'static str>,
}

#[derive(Default)]
struct Meaning {
    kind: &'static str,
    unit: String,
    help: String,
}

type Labels = BTreeMap<String, BTreeSet<String>>;

/// Notes what is described and what is shown.
#[derive(Default)]
struct Listener {
    described: Mutex<BTreeMap<String, Meaning>>,
    shown: Mutex<BTreeMap<String, Labels>>,
}

impl Listener {
    fn describe(
        &self,
        kind: &'static str,
        name: &KeyName,
        unit: Option<Unit>,
        help: &SharedString,
    ) {
        let unit = unit.map_or_else(String::new, |unit| format!(", {}", unit.as_str()));
        let help = help.to_string();
        let meaning = Meaning { kind, unit, help };
        self.described
            .lock()
            .unwrap()
            .insert(name.as_str().to_owned(), meaning);
    }

    fn show(&self, key: &Key) {
        let mut shown = self.shown.lock().unwrap();
        let labels = shown.entry(key.name().to_owned()).or_default();
        for label in key.labels() {
            labels
                .entry(label.key().to_owned())
                .or_default()
                .insert(label.value().to_owned());
        }
    }
}

impl Recorder for Listener {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe("counter", &name, unit, &help);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe("gauge", &name, unit, &help);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe("histogram", &name, unit, &help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.show(key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.show(key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.show(key);
        Histogram::noop()
    }
}
