//! Reading a restore point back proves it. Damage is detected, and that point alone is quarantined and replaced.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use lastgood::{
    catalog::{AuditFilter, PointRow},
    run::{RunState, Trigger},
};
use uuid::Uuid;

use super::{
    cache::Cache,
    customer::{Customer, Rights},
    lab::{Lab, PATIENCE, run_id},
    native,
    orders::Orders,
    store,
};
use crate::eventually::eventually;

impl Lab {
    /// Returns the point that a run made.
    async fn point_of(&self, run: Uuid) -> Result<PointRow> {
        Ok(self.catalog.catalog.point(run).await?)
    }

    async fn back_up(&self, id: &str) -> Result<PointRow> {
        let run = self.enqueue_backup(id).await?;
        self.succeeds(run).await?;
        self.point_of(run).await
    }

    /// Changes one byte in the middle of a point's archive.
    fn spoil(&self, point: &PointRow) -> Result<()> {
        let path = store::archive(&self.store(), point)?;
        let mut bytes = fs::read(&path)?;
        let middle = bytes.len() / 2;
        *bytes.get_mut(middle).context("an empty archive")? ^= 1;
        Ok(fs::write(&path, bytes)?)
    }

    async fn quarantined(&self) -> Result<Vec<Uuid>> {
        let all = self.catalog.catalog.quarantined(100).await?;
        Ok(all.into_iter().map(|point| point.id).collect())
    }
}

async fn shop() -> Result<Customer> {
    let shop = Customer::create(Rights::Owner).await?;
    shop.run("create table items as select n, 'item ' || n as name from generate_series(1, 500) n")
        .await?;
    Ok(shop)
}

#[tokio::test]
async fn points_of_every_engine_are_read_back_and_the_damaged_one_of_each_is_found() -> Result<()> {
    let (lab, shop, orders, cache) = (
        Lab::create().await?,
        shop().await?,
        Orders::create().await?,
        Cache::start().await?,
    );
    orders.fill().await?;
    cache.fill().await?;
    lab.add("shop", &shop).await?;
    native::add(&lab, "orders", "mongodb", "free", &orders.url()).await?;
    native::add(&lab, "cache", "redis", "free", &cache.url()).await?;
    let consumer = lab.consumer("consumer", &[]).await?;
    let mut points = Vec::new();
    for id in ["shop", "orders", "cache"] {
        points.push(lab.back_up(id).await?);
    }

    let said = lab.run(&["verify", "--all", "--wait"]).await?.succeeded()?;
    ensure!(said.out.matches("whole").count() == 3, "{said:?}");
    for point in &points {
        let proven = lab.point_of(point.id).await?;
        ensure!(proven.verified_at.is_some(), "{proven:?}");
        lab.spoil(point)?;
    }
    let said = lab.run(&["--json", "verify", "--all", "--wait"]).await?;
    ensure!(said.code == Some(1), "{said:?}");
    for found in said.json()?.as_array().context("no list")? {
        ensure!(found["result"] == "damaged", "{found}");
    }
    for engine in ["vector", "mongodb", "redis"] {
        for result in ["whole", "damaged"] {
            let series =
                format!("lastgood_verifications_total{{engine=\"{engine}\",result=\"{result}\"}}");
            consumer.shows(&series, 1.0).await?;
        }
    }
    eventually(PATIENCE, "each has a new restore point", async || {
        Ok(lab.points().await?.len() == 6)
    })
    .await?;
    orders.drop().await
}

#[tokio::test]
async fn a_damaged_point_is_set_aside_replaced_told_of_and_acquitted_once_it_is_whole() -> Result<()>
{
    let (lab, shop) = (Lab::create().await?, shop().await?);
    lab.add("shop", &shop).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let older = lab.back_up("shop").await?;
    let newer = lab.back_up("shop").await?;
    lab.spoil(&newer)?;
    let said = lab.run(&["verify", "shop", "--wait"]).await?;
    ensure!(
        said.code == Some(1) && said.out.contains("DAMAGED") && said.out.contains("whole"),
        "{said:?}"
    );
    ensure!(lab.quarantined().await? == [newer.id]);

    // It is replaced at once, and only once.
    let replacement = lab
        .catalog
        .catalog
        .run_with_key("shop", &format!("quarantine-{}", newer.id))
        .await?
        .context("no backup was asked for")?
        .id
        .0;
    lab.succeeds(replacement).await?;
    // The backup is lastgood's own, and does not count towards the limits on services' requests.
    assert_eq!(lab.row(replacement).await?.trigger, Trigger::Upkeep);
    let replacement = lab.point_of(replacement).await?;
    let resource = lab.catalog.catalog.resource("shop").await?;
    assert_eq!(
        resource.newest_consistent_at,
        Some(replacement.consistent_at)
    );

    // It is reported.
    let status = lab.run(&["status", "--check"]).await?.succeeded()?;
    let told = format!("QUARANTINED: restore point {} of shop", newer.id);
    ensure!(status.out.contains(&told), "{status:?}");
    let audited = lab
        .catalog
        .catalog
        .audited(&AuditFilter::newest(10))
        .await?;
    let of_points: Vec<_> = audited
        .iter()
        .filter_map(|it| Some((it.action.as_str(), it.point?)))
        .collect();
    ensure!(of_points == [("quarantine", newer.id)], "{audited:?}");

    // It is not restored, by default or by name.
    let id = newer.id.to_string();
    let refused = lab.run(&["restore", "shop", "--point", &id]).await?;
    let refused = refused.refused()?;
    ensure!(refused.contains("was found damaged"), "{refused}");
    let restored = lab
        .run(&[
            "--json",
            "restore",
            "shop",
            "--at",
            &newer.consistent_at.to_rfc3339(),
        ])
        .await?
        .succeeded()?
        .json()?;
    assert_eq!(restored["point"], older.id.to_string());
    lab.succeeds(run_id(&restored)?).await?;
    let anyway = [
        "--json",
        "restore",
        "shop",
        "--point",
        &id,
        "--even-quarantined",
    ];
    let anyway = lab.run(&anyway).await?.succeeded()?.json()?;
    let failed = lab.ends(run_id(&anyway)?).await?;
    ensure!(
        failed.error_kind.as_deref() == Some("corrupt"),
        "{failed:?}"
    );

    // Flipping the same bit again makes the archive intact.
    lab.spoil(&newer)?;
    lab.run(&["verify", "--point", &id, "--wait"])
        .await?
        .succeeded()?;
    ensure!(lab.quarantined().await?.is_empty());
    let audited = lab.catalog.catalog.audited(&AuditFilter::newest(1)).await?;
    ensure!(audited[0].action == "acquit", "{audited:?}");
    lab.run(&["restore", "shop", "--point", &id, "--wait"])
        .await?
        .succeeded()?;
    Ok(())
}

#[tokio::test]
async fn a_restore_that_finds_its_archive_damaged_sets_the_point_aside_and_one_that_succeeds_proves_it()
-> Result<()> {
    let (lab, shop) = (Lab::create().await?, shop().await?);
    lab.add("shop", &shop).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let older = lab.back_up("shop").await?;
    let newer = lab.back_up("shop").await?;
    lab.spoil(&newer)?;
    let failed = lab.run(&["restore", "shop", "--wait"]).await?;
    ensure!(failed.code == Some(1), "{failed:?}");
    ensure!(lab.quarantined().await? == [newer.id]);
    let at = newer.consistent_at.to_rfc3339();
    lab.run(&["restore", "shop", "--at", &at, "--wait"])
        .await?
        .succeeded()?;
    ensure!(lab.point_of(older.id).await?.verified_at.is_some());
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_away_condemns_nothing_and_what_is_missing_alone_is_condemned() -> Result<()>
{
    let (lab, shop) = (Lab::create().await?, shop().await?);
    lab.add("shop", &shop).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let older = lab.back_up("shop").await?;
    let newer = lab.back_up("shop").await?;
    let (objects, aside) = (lab.store().join("objects/v1"), lab.store().join("aside"));
    fs::rename(&objects, &aside)?;
    let id = newer.id.to_string();
    let asked = lab.run(&["--json", "verify", "--point", &id]).await?;
    let asked = asked.succeeded()?.json()?;
    let run = run_id(&asked[0])?;
    let row = lab
        .becomes(run, "it will be tried again", |row| {
            row.state == RunState::Queued && row.error.is_some()
        })
        .await?;
    ensure!(row.error_kind.as_deref() == Some("storage"), "{row:?}");
    ensure!(lab.quarantined().await?.is_empty());
    fs::rename(&aside, &objects)?;
    lab.succeeds(run).await?;

    fs::remove_file(store::archive(&lab.store(), &newer)?)?;
    let said = lab.run(&["verify", "shop", "--wait"]).await?;
    ensure!(said.code == Some(1), "{said:?}");
    ensure!(lab.quarantined().await? == [newer.id]);
    ensure!(lab.point_of(older.id).await?.verified_at.is_some());
    Ok(())
}

#[tokio::test]
async fn a_manifest_that_is_gone_or_not_the_one_that_was_recorded_condemns_its_point() -> Result<()>
{
    let (lab, shop) = (Lab::create().await?, shop().await?);
    lab.add("shop", &shop).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let whole = lab.back_up("shop").await?;
    let (gone, changed, newer_build) = (
        lab.back_up("shop").await?,
        lab.back_up("shop").await?,
        lab.back_up("shop").await?,
    );
    let path = |point: &PointRow| lab.store().join("objects").join(&point.manifest_key);
    fs::remove_file(path(&gone))?;
    let text = fs::read_to_string(path(&changed))?;
    fs::write(path(&changed), text.replace("\"acme\"", "\"evil\""))?;
    // As in the middle of an upgrade: this build must not judge a manifest that it does not understand.
    let text = fs::read_to_string(path(&newer_build))?;
    fs::write(
        path(&newer_build),
        text.replace("\"version\": 1", "\"version\": 2"),
    )?;
    sqlx::query("update lastgood.restore_points set manifest = jsonb_set(manifest, '{version}', '2') where id = $1")
        .bind(newer_build.id)
        .execute(lab.catalog.pool())
        .await?;
    let said = lab.run(&["verify", "shop", "--wait"]).await?;
    ensure!(said.code == Some(1), "{said:?}");
    let mut found = lab.quarantined().await?;
    found.sort();
    let mut expected = [gone.id, changed.id];
    expected.sort();
    assert_eq!(found, expected);
    ensure!(said.out.contains("not verified"), "{said:?}");
    ensure!(lab.point_of(whole.id).await?.verified_at.is_some());
    Ok(())
}

#[tokio::test]
async fn a_point_is_set_aside_only_when_no_store_holds_it_whole() -> Result<()> {
    let (mut lab, shop) = (Lab::create().await?, shop().await?);
    lab.add("shop", &shop).await?;
    let (first, second) = (lab.store(), lab.home.path().join("second"));
    let stores = format!(
        "version: 1\nstores:\n  - name: first\n    storage: {}\n  - name: second\n    storage: {}\n",
        first.display(),
        second.display()
    );
    let file = lab.home.path().join("stores.yaml");
    fs::write(&file, stores)?;
    lab.set("LASTGOOD_STORES", file.display().to_string());
    let _consumer = lab.consumer("consumer", &[]).await?;
    let point = lab.back_up("shop").await?;
    let manifest = format!("objects/{}", point.manifest_key);
    let (from, to) = (
        store::archive(&first, &point)?,
        store::archive(&second, &point)?,
    );
    fs::create_dir_all(to.parent().context("no directory")?)?;
    fs::copy(&from, &to)?;
    fs::copy(first.join(&manifest), second.join(&manifest))?;

    lab.spoil(&point)?;
    let id = point.id.to_string();
    let said = lab.run(&["verify", "--point", &id, "--wait"]).await?;
    ensure!(
        said.code == Some(1) && said.out.contains("store \"second\" holds the point whole"),
        "{said:?}"
    );
    ensure!(lab.quarantined().await?.is_empty());
    lab.run(&["restore", "shop", "--wait"]).await?.succeeded()?;
    ensure!(lab.point_of(point.id).await?.verified_at.is_none());

    fs::remove_file(&to)?;
    let said = lab.run(&["verify", "--point", &id, "--wait"]).await?;
    ensure!(
        said.code == Some(1) && said.out.contains("DAMAGED"),
        "{said:?}"
    );
    ensure!(lab.quarantined().await? == [point.id]);
    Ok(())
}
