//! Operators and services choose a point and a target, requests are idempotent, and programs can read the answers.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    customer::{Customer, Rights},
    lab::{Lab, run_id},
    program::Service,
};

const TOTAL: &str = "select sum(n)::text from orders";

/// Creates a shop with the single order 1, backed up once.
async fn installation() -> Result<(Lab, Customer, Service)> {
    let (lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    shop.run("create table orders (n int); insert into orders values (1)")
        .await?;
    lab.add("shop", &shop).await?;
    let consumer = lab.consumer("consumer", &[]).await?;
    lab.succeeds(lab.enqueue_backup("shop").await?).await?;
    Ok((lab, shop, consumer))
}

#[tokio::test]
async fn a_kept_database_is_dropped_by_its_whole_name_and_no_other_is() -> Result<()> {
    let (lab, shop, _consumer) = installation().await?;
    shop.run("insert into orders values (2)").await?;
    let restored = lab
        .run(&["--json", "restore", "shop", "--wait"])
        .await?
        .succeeded()?
        .json()?;
    let kept = restored.pointer("/report/kept").and_then(Value::as_str);
    let kept = kept.context("nothing was kept")?.to_owned();
    assert_eq!(shop.ask(TOTAL).await?, "1");
    assert_eq!(shop.ask_in(&kept, TOTAL).await?, "3");

    let others = [shop.name.clone(), "postgres".to_owned(), format!("{kept}0")];
    for other in &others {
        let args = ["--json", "resource", "drop-replaced", "shop", other];
        let run = run_id(&lab.run(&args).await?.succeeded()?.json()?)?;
        let row = lab.ends(run).await?;
        assert_eq!(
            (row.state.as_str(), row.error_kind.as_deref()),
            ("failed", Some("config"))
        );
        assert!(
            row.error
                .as_deref()
                .is_some_and(|error| error.contains("was not kept aside")),
            "{row:?}"
        );
    }
    assert_eq!(shop.databases().await?, [shop.name.clone(), kept.clone()]);

    let args = ["--json", "resource", "drop-replaced", "shop", &kept];
    let run = run_id(&lab.run(&args).await?.succeeded()?.json()?)?;
    lab.succeeds(run).await?;
    assert_eq!(shop.databases().await?, [shop.name.as_str()]);
    assert_eq!(shop.ask(TOTAL).await?, "1");
    Ok(())
}

#[tokio::test]
async fn a_restore_brings_the_point_that_was_asked_for_to_where_it_was_asked_for() -> Result<()> {
    let (lab, shop, _consumer) = installation().await?;
    let first = lab.points().await?.first().context("no point")?.clone();
    shop.run("insert into orders values (2)").await?;
    lab.succeeds(lab.enqueue_backup("shop").await?).await?;
    let second = lab.points().await?.first().context("no point")?.clone();
    ensure!(second.consistent_at > first.consistent_at);

    let empty = format!("{}_empty", shop.name);
    let statement = format!(
        "create database {empty} owner {} template template0",
        shop.name
    );
    shop.as_superuser(&statement).await?;
    let just_before = (second.consistent_at - chrono::TimeDelta::milliseconds(1)).to_rfc3339();
    let args = [
        "restore",
        "shop",
        "--at",
        &just_before,
        "--into",
        &empty,
        "--wait",
    ];
    lab.run(&args).await?.succeeded()?;
    assert_eq!(shop.ask_in(&empty, TOTAL).await?, "1");
    let again = lab
        .run(&["restore", "shop", "--into", &empty, "--wait"])
        .await?;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(
        again.out.contains("target: the target database") && again.out.contains("is not empty"),
        "{again:?}"
    );
    assert_eq!(shop.ask_in(&empty, TOTAL).await?, "1");
    assert_eq!(
        shop.ask(TOTAL).await?,
        "3",
        "the resource's own database was touched"
    );

    let too_early = (first.consistent_at - chrono::TimeDelta::seconds(1)).to_rfc3339();
    let error = lab
        .run(&["restore", "shop", "--at", &too_early])
        .await?
        .refused()?;
    assert!(error.contains("no restore point at or before"), "{error}");
    lab.add("other", &shop).await?;
    let id = first.id.to_string();
    let error = lab
        .run(&["restore", "other", "--point", &id])
        .await?
        .refused()?;
    assert!(error.contains("belongs to shop, not to other"), "{error}");
    let error = lab
        .run(&["restore", "shop", "--in-place", "--overwrite", "other"])
        .await?
        .refused()?;
    assert!(error.contains("--overwrite shop"), "{error}");

    lab.run(&["restore", "shop", "--point", &id, "--wait"])
        .await?
        .succeeded()?;
    assert_eq!(shop.ask(TOTAL).await?, "1");
    Ok(())
}

#[tokio::test]
async fn a_request_that_is_repeated_with_its_key_is_one_run() -> Result<()> {
    let (lab, _shop, _consumer) = installation().await?;
    let args = [
        "--json",
        "backup",
        "now",
        "shop",
        "--idempotency-key",
        "before-migration-7",
    ];
    let first = lab.run(&args).await?.succeeded()?.json()?;
    lab.succeeds(run_id(&first)?).await?;
    let second = lab.run(&args).await?.succeeded()?.json()?;
    assert_eq!(run_id(&first)?, run_id(&second)?);
    lab.has_points(2).await?;
    let other_job = ["restore", "shop", "--idempotency-key", "before-migration-7"];
    lab.run(&other_job).await?.refused()?;
    Ok(())
}

#[tokio::test]
async fn every_answer_can_be_had_as_json() -> Result<()> {
    let (lab, _shop, _consumer) = installation().await?;
    let point = lab
        .points()
        .await?
        .first()
        .context("no point")?
        .id
        .to_string();
    let plans = concat!(env!("CARGO_MANIFEST_DIR"), "/plans.yaml");
    let questions: [&[&str]; 14] = [
        &["migrate"],
        &["resource", "list"],
        &["resource", "show", "shop"],
        &["resource", "pause", "shop"],
        &["resource", "resume", "shop"],
        &["point", "list", "shop"],
        &["point", "show", &point],
        &["backup", "now", "shop", "--wait"],
        &["run", "list"],
        &["run", "show", &point],
        &["status"],
        &["plans", "show"],
        &["plans", "check", plans],
        &["restore", "shop", "--wait"],
    ];
    for question in questions {
        let said = lab
            .run(&[&["--json"], question].concat())
            .await?
            .succeeded()?;
        let answer = said.json()?;
        ensure!(
            answer.is_object() || answer.is_array(),
            "{question:?}: {answer}"
        );
        ensure!(said.err.is_empty(), "{question:?}: {}", said.err);
    }
    let examined = lab.run(&["--json", "doctor"]).await?;
    ensure!(examined.json()?.is_array(), "{examined:?}");
    let error = lab
        .run(&["--json", "run", "show", &uuid::Uuid::nil().to_string()])
        .await?
        .refused()?;
    let error: Value = serde_json::from_str(&error)?;
    ensure!(error["type"] == "urn:lastgood:problem:not-found", "{error}");
    Ok(())
}
