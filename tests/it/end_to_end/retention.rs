//! Expired points are gone from the store and the catalog, and the newest one can still be restored.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use lastgood::catalog::AuditFilter;
use uuid::Uuid;

use super::{
    customer::{Customer, Rights},
    lab::{Lab, PATIENCE},
};
use crate::eventually::eventually;

/// Creates a lab with a customer on a tier of seven days, and three old restore points.
async fn old_house() -> Result<(Lab, Customer, [Uuid; 3])> {
    let mut lab = Lab::create().await?;
    lab.set("LASTGOOD_UPKEEP", "1s");
    lab.set("LASTGOOD_VERIFY_WITHIN", "0s");
    let shop = Customer::create(Rights::Owner).await?;
    shop.run("create table items as select n from generate_series(1, 100) n")
        .await?;
    // Paused, so that only the test makes restore points.
    lab.add_url("shop", "hobby", &shop.url()).await?;
    lab.run(&["resource", "pause", "shop"]).await?.succeeded()?;
    let consumer = lab.consumer("first", &[]).await?;
    let mut points = [Uuid::nil(); 3];
    for point in &mut points {
        *point = lab.enqueue_backup("shop").await?;
        lab.succeeds(*point).await?;
    }
    drop(consumer);
    for (point, days) in points.iter().zip([60, 50, 40]) {
        sqlx::query(
            "update lastgood.restore_points
             set consistent_at = now() - make_interval(days => $2), created_at = now() - make_interval(days => $2)
             where id = $1",
        )
        .bind(point)
        .bind(days)
        .execute(lab.catalog.pool())
        .await?;
    }
    // Retention has known the promise for long enough.
    lab.catalog
        .execute(
            r#"update lastgood.retention set look_at = now(), record =
                   '{"promise": {"retention_days": 7, "minimum_kept": 1}, "since": "2020-01-01T00:00:00Z"}'"#,
        )
        .await?;
    Ok((lab, shop, points))
}

#[tokio::test]
async fn after_its_expiry_nothing_is_left_of_a_point_and_the_newest_stays() -> Result<()> {
    let (lab, _shop, [pinned, old, newest]) = old_house().await?;
    let because = "the schema before the great migration";
    let pin = ["point", "pin", &pinned.to_string(), "--reason", because];
    lab.run(&pin).await?.succeeded()?;

    // The plan says what will happen before anything does.
    let plan = lab
        .run(&["--json", "retention", "plan", "shop"])
        .await?
        .succeeded()?;
    let plan = plan.json()?;
    let decided = |id: Uuid| -> Result<String> {
        let points = plan.as_array().context("no list")?;
        let point = points.iter().find(|point| point["id"] == id.to_string());
        let point = point.context("a point is missing")?;
        Ok(format!(
            "{}: {}",
            point["decision"].as_str().unwrap_or(""),
            point["because"].as_str().unwrap_or("")
        ))
    };
    assert_eq!(decided(pinned)?, "keep: pinned");
    assert_eq!(decided(old)?, "expire: older than the promised 7 days");
    assert_eq!(
        decided(newest)?,
        "keep: the newest usable one of a live resource: never removed"
    );

    let _producer = lab.producer()?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    eventually(PATIENCE, "the point is gone", async || {
        Ok(lab.catalog.catalog.point(old).await.is_err())
    })
    .await?;
    // The store has the two others and nothing else.
    let left = lab.has_points(2).await?;
    ensure!(left.iter().all(|point| point.id != old), "{left:?}");
    let acts = lab
        .catalog
        .catalog
        .audited(&AuditFilter::newest(10))
        .await?;
    let told: Vec<_> = acts
        .iter()
        .filter(|act| act.point.is_some())
        .map(|act| (act.action.as_str(), act.point))
        .collect();
    assert_eq!(told, [("expire", Some(old)), ("pin", Some(pinned))]);

    let said = lab.run(&["point", "list", "shop"]).await?.succeeded()?;
    ensure!(said.out.contains("pinned"), "{said:?}");
    let said = lab.run(&["retention", "plan", "shop"]).await?.succeeded()?;
    ensure!(said.out.contains(because), "{said:?}");
    let said = lab.run(&["retention", "plan"]).await?.succeeded()?;
    ensure!(said.out.contains("shop"), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn a_removal_that_was_cut_off_is_finished_by_the_next_one() -> Result<()> {
    let (lab, _shop, [old, _, newest]) = old_house().await?;
    // A consumer was killed after it removed the manifest and before it removed the archive.
    let point = lab.catalog.catalog.point(old).await?;
    fs::remove_file(lab.store().join("objects").join(&point.manifest_key))?;
    sqlx::query(
        "update lastgood.restore_points
         set expired_at = now(), expired_because = 'x', removal_began_at = now() where id = $1",
    )
    .bind(old)
    .execute(lab.catalog.pool())
    .await?;
    let _producer = lab.producer()?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    eventually(PATIENCE, "the points are gone", async || {
        Ok(lab.points().await?.len() == 1)
    })
    .await?;
    let left = lab.has_points(1).await?;
    ensure!(left.iter().all(|point| point.id == newest), "{left:?}");
    Ok(())
}

#[tokio::test]
async fn under_the_built_in_plans_nothing_expires() -> Result<()> {
    let (mut lab, _shop, points) = old_house().await?;
    let broken = lab.home.path().join("broken.yaml");
    fs::write(&broken, "version: 1\ntiers: [\n")?;
    lab.set("LASTGOOD_PLANS", broken.display().to_string());
    lab.set("LASTGOOD_TICK", "1s");
    let producer = lab.producer()?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let said = lab.run(&["retention", "plan"]).await?.succeeded()?;
    ensure!(said.err.contains("nothing expires"), "{said:?}");
    // A point that had expired before is still removed, which shows that upkeep has looked.
    let [marked, ..] = points;
    sqlx::query("update lastgood.restore_points set expired_at = now(), expired_because = 'x' where id = $1")
        .bind(marked)
        .execute(lab.catalog.pool())
        .await?;
    eventually(PATIENCE, "the marked point is gone", async || {
        Ok(lab.catalog.catalog.point(marked).await.is_err())
    })
    .await?;
    lab.has_points(2).await?;
    drop(producer);
    Ok(())
}
