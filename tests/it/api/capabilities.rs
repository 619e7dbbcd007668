//! Capabilities are what consumers and producers that are alive can do.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lastgood::{
    catalog::{Catalog, GoesBy, Order, Registration, Scope},
    plan::Plans,
};
use rstest::rstest;
use serde_json::{Value, json};

use super::lab::Api;

const DAY: Option<Duration> = Some(Duration::from_hours(24));

/// Records a tick of the only producer.
async fn ticked(catalog: &Catalog, plans: &Plans, verify_within: Option<Duration>) -> Result<()> {
    let goes_by = GoesBy::of(plans, verify_within);
    Ok(catalog
        .producer_ticked("p", Duration::from_mins(1), &goes_by)
        .await?)
}

async fn register(catalog: &Catalog, engine: &str) -> Result<()> {
    let registration = Registration {
        id: format!("{engine}-1"),
        host: "here".to_owned(),
        pid: 1,
        version: "0".to_owned(),
        queues: vec![engine.to_owned()],
        slots: 1,
        capabilities: json!([
            { "engine": engine, "operations": ["backup", "restore"], "tools": ["a tool"] },
            { "engine": "of-a-later-version", "operations": [], "tools": [] },
        ]),
        master_keys: Vec::new(),
    };
    Ok(catalog.register_consumer(&registration).await?)
}

/// Returns what the capabilities say about the engine on tier `pro`.
async fn of(api: &Api, token: &str, engine: &str) -> Result<Value> {
    let answer = api.get(token, "/capabilities").await?.with(200)?;
    let tiers = answer["tiers"].as_array().context("no tiers")?;
    let pro = tiers
        .iter()
        .find(|tier| tier["id"] == "pro")
        .context("no tier pro")?;
    assert_eq!(
        (&pro["rpo_minutes"], &pro["cadence_minutes"]),
        (&json!(60), &json!(60))
    );
    let engines = pro["engines"].as_array().context("no engines")?;
    Ok(engines
        .iter()
        .find(|it| it["engine"] == engine)
        .context("no such engine")?
        .clone())
}

fn available(it: &Value) -> [bool; 3] {
    ["backup", "restore", "verification"].map(|what| it[what]["is_available"] == true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_stops_drains_or_falls_silent_takes_its_promise_along() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    let catalog = &api.db.catalog;
    assert_eq!(available(&of(&api, &token, "mongodb").await?), [false; 3]);
    register(catalog, "mongodb").await?;
    register(catalog, "redis").await?;
    ticked(catalog, &Plans::built_in(), DAY).await?;
    for engine in ["mongodb", "redis"] {
        assert_eq!(available(&of(&api, &token, engine).await?), [true; 3]);
    }
    for gone in [
        "update lastgood.consumers set state = 'stopped' where id = 'mongodb-1'",
        "update lastgood.consumers set state = 'draining' where id = 'mongodb-1'",
        "update lastgood.consumers set state = 'running', seen_at = now() - interval '31 seconds' where id = 'mongodb-1'",
    ] {
        api.db.execute(gone).await?;
        let mongodb = of(&api, &token, "mongodb").await?;
        assert_eq!(available(&mongodb), [false; 3], "{gone}");
        assert_eq!(
            mongodb["backup"]["because"],
            "no consumer that serves mongodb is running"
        );
        assert_eq!(available(&of(&api, &token, "redis").await?), [true; 3]);
        api.db
            .execute("update lastgood.consumers set state = 'running', seen_at = now()")
            .await?;
        assert_eq!(available(&of(&api, &token, "mongodb").await?), [true; 3]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_producer_that_ticks_no_backup_is_promised() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    register(&api.db.catalog, "redis").await?;
    assert_eq!(
        available(&of(&api, &token, "redis").await?),
        [false, true, false]
    );
    ticked(&api.db.catalog, &Plans::built_in(), DAY).await?;
    assert_eq!(available(&of(&api, &token, "redis").await?), [true; 3]);
    api.db
        .execute("update lastgood.producers set ticked_at = now() - interval '181 seconds'")
        .await?;
    assert_eq!(
        available(&of(&api, &token, "redis").await?),
        [false, true, false]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_no_capability() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    register(&api.db.catalog, "redis").await?;
    ticked(&api.db.catalog, &Plans::built_in(), DAY).await?;
    api.db
        .catalog
        .pause(&Scope::default(), &Order::new("test", None))
        .await?;
    assert_eq!(available(&of(&api, &token, "redis").await?), [false; 3]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_producer_does_not_schedule_is_not_promised_whatever_this_api_has_read()
-> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    let catalog = &api.db.catalog;
    register(catalog, "redis").await?;
    let stale = Plans::parse(
        "version: 1\ntiers:\n  pro: {rpo_minutes: 1440, backup_retention_days: 30}\n",
    )?;
    ticked(catalog, &stale, DAY).await?;
    let redis = of(&api, &token, "redis").await?;
    assert_eq!(available(&redis), [false, true, true]);
    let reason = redis["backup"]["because"].as_str().context("no reason")?;
    assert!(
        reason.starts_with("the producer's plans differ from this API's: "),
        "{reason}"
    );
    ticked(catalog, &Plans::built_in(), DAY).await?;
    assert_eq!(available(&of(&api, &token, "redis").await?), [true; 3]);

    // A second producer with other plans undoes what the first one plans.
    catalog
        .producer_ticked("q", Duration::from_mins(1), &GoesBy::of(&stale, DAY))
        .await?;
    assert_eq!(
        available(&of(&api, &token, "redis").await?),
        [false, true, true]
    );
    Ok(())
}

#[rstest]
#[case::the_producer_verifies(DAY, true)]
#[case::the_producer_does_not(None, false)]
#[tokio::test(flavor = "multi_thread")]
async fn verification_goes_by_what_the_producer_asks_for(
    #[case] within: Option<Duration>,
    #[case] expected: bool,
) -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    register(&api.db.catalog, "redis").await?;
    ticked(&api.db.catalog, &Plans::built_in(), within).await?;
    assert_eq!(
        available(&of(&api, &token, "redis").await?),
        [true, true, expected]
    );
    Ok(())
}
