//! Listing a store shows what is gone from it, before a restore needs it. Within the hour it is reported and no longer counts.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use lastgood::catalog::PointRow;
use uuid::Uuid;

use super::{
    customer::{Customer, Rights},
    lab::{Lab, PATIENCE},
    store,
};
use crate::eventually::eventually;

const COUNT: &str = "select count(*)::text from items";

struct Shop {
    lab: Lab,
    shop: Customer,
}

impl Shop {
    async fn open(points: usize) -> Result<(Self, Vec<PointRow>)> {
        let (mut lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
        shop.run(
            "create table items as select n, 'item ' || n as name from generate_series(1, 500) n",
        )
        .await?;
        lab.set("LASTGOOD_JANITOR_EVERY", "1s");
        lab.set("LASTGOOD_UPKEEP", "1s");
        // No verification on its own: the tests request each one.
        lab.set("LASTGOOD_VERIFY_WITHIN", "0");
        lab.add("shop", &shop).await?;
        let shop = Self { lab, shop };
        let made = {
            let _consumer = shop.lab.consumer("before", &[]).await?;
            let mut made = Vec::new();
            for _ in 0..points {
                let run = shop.lab.enqueue_backup("shop").await?;
                shop.lab.succeeds(run).await?;
                made.push(shop.lab.catalog.catalog.point(run).await?);
            }
            made
        };
        Ok((shop, made))
    }

    async fn quarantined(&self) -> Result<Vec<Uuid>> {
        let all = self.lab.catalog.catalog.quarantined(100).await?;
        Ok(all.into_iter().map(|point| point.id).collect())
    }

    async fn newest(&self) -> Result<Option<chrono::DateTime<chrono::Utc>>> {
        let row = self.lab.catalog.catalog.resource("shop").await?;
        Ok(row.newest_consistent_at)
    }
}

#[tokio::test]
async fn a_point_whose_archive_or_manifest_is_gone_is_found_by_the_janitor_and_counts_for_nothing()
-> Result<()> {
    let (shop, points) = Shop::open(3).await?;
    let [whole, no_archive, no_manifest] = points.as_slice() else {
        anyhow::bail!("{points:?}")
    };
    let store = shop.lab.store();
    fs::remove_file(store::archive(&store, no_archive)?)?;
    fs::remove_file(store.join("objects").join(&no_manifest.manifest_key))?;
    // What is still there continues to count. The queue is paused so that the replacing backup does not change that.
    shop.lab
        .run(&["queue", "pause", "--reason", "a test"])
        .await?
        .succeeded()?;
    let _consumer = shop.lab.consumer("janitor", &[]).await?;
    eventually(PATIENCE, "both are quarantined", async || {
        Ok(shop.quarantined().await?.len() == 2)
    })
    .await?;
    ensure!(!shop.quarantined().await?.contains(&whole.id));
    ensure!(shop.newest().await? == Some(whole.consistent_at));
    let status = shop.lab.run(&["status"]).await?.succeeded()?.out;
    for key in [
        &no_manifest.manifest_key,
        no_archive.manifest["archive"]["key"]
            .as_str()
            .context("no key")?,
    ] {
        ensure!(
            status.contains(&format!("missing from store primary: {key}")),
            "{status}"
        );
    }
    // One backup was requested to replace what is lost.
    let asked = "select count(*) from lastgood.runs where kind = 'backup' and state = 'queued'";
    ensure!(shop.lab.catalog.count(asked).await? == 1);
    Ok(())
}

#[tokio::test]
async fn an_emptied_store_is_told_as_such_and_an_undelete_acquits_what_was_in_it() -> Result<()> {
    let (shop, points) = Shop::open(4).await?;
    let lab = &shop.lab;
    let (objects, aside) = (
        lab.store().join("objects/v1"),
        lab.home.path().join("aside"),
    );
    let _producer = lab.producer()?;
    eventually(PATIENCE, "the store is known", async || {
        Ok(lab
            .catalog
            .count("select count(*) from lastgood.stores")
            .await?
            == 1)
    })
    .await?;
    lab.run(&["queue", "pause", "--reason", "a test"])
        .await?
        .succeeded()?;
    fs::rename(&objects, &aside)?;
    let consumer = lab.consumer("janitor", &[]).await?;
    eventually(PATIENCE, "all are quarantined", async || {
        Ok(shop.quarantined().await?.len() == points.len())
    })
    .await?;
    ensure!(shop.newest().await?.is_none());
    let status = lab.run(&["status", "--check"]).await?;
    ensure!(
        status.code == Some(1)
            && status
                .out
                .contains("STORE EMPTIED: 4 of 4 restore points in primary are gone"),
        "{status:?}"
    );
    let compared = lab.run(&["store", "compare"]).await?;
    ensure!(
        compared.code == Some(1) && compared.out.contains("VANISHED: 4 of 4"),
        "{compared:?}"
    );
    let audit = lab.run(&["audit"]).await?.succeeded()?.out;
    ensure!(audit.contains("store_vanished"), "{audit}");

    // An operator brings the objects back.
    fs::rename(&aside, &objects)?;
    lab.run(&["queue", "resume"]).await?.succeeded()?;
    lab.follow("how-to/emptied-store.md", "The objects came back", &[])
        .await?;
    ensure!(shop.quarantined().await?.is_empty());
    ensure!(shop.newest().await? >= points.last().map(|point| point.consistent_at));
    let status = lab.run(&["status"]).await?.succeeded()?.out;
    ensure!(!status.contains("STORE EMPTIED"), "{status}");
    drop(consumer);
    ensure!(shop.shop.ask(COUNT).await? == "500");
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_not_where_it_was_is_told_and_condemns_nothing() -> Result<()> {
    let (shop, points) = Shop::open(3).await?;
    let (store, aside) = (shop.lab.store(), shop.lab.home.path().join("aside"));
    let consumer = shop.lab.consumer("janitor", &[]).await?;
    fs::rename(&store, &aside)?;
    eventually(PATIENCE, "it is told", async || {
        let status = shop.lab.run(&["status", "--check"]).await?;
        Ok(status.code == Some(1) && status.out.contains("STORE NOT LISTED"))
    })
    .await?;
    ensure!(!store.exists(), "the store was made anew");
    ensure!(shop.quarantined().await?.is_empty());
    ensure!(shop.newest().await? == points.last().map(|point| point.consistent_at));
    fs::rename(&aside, &store)?;
    eventually(PATIENCE, "it is listed again", async || {
        let status = shop.lab.run(&["status"]).await?.succeeded()?;
        Ok(!status.out.contains("STORE NOT LISTED"))
    })
    .await?;
    drop(consumer);
    Ok(())
}

#[tokio::test]
async fn a_loss_that_is_accepted_holds_nothing_up_and_a_new_one_does_again() -> Result<()> {
    let (shop, points) = Shop::open(6).await?;
    let lab = &shop.lab;
    let (first, second) = points.split_at(3);
    let lose = |points: &[PointRow]| -> Result<()> {
        for point in points {
            fs::remove_file(lab.store().join("objects").join(&point.manifest_key))?;
        }
        Ok(())
    };
    let compare = async |found: &str| {
        let said = lab.run(&["store", "compare"]).await?;
        ensure!(said.code == Some(1) && said.out.contains(found), "{said:?}");
        anyhow::Ok(())
    };
    lose(first)?;
    compare("VANISHED: 3 of 6").await?;
    let refused = lab
        .run(&["store", "accept-loss", "primary", "--confirm", "other"])
        .await?
        .refused()?;
    ensure!(refused.contains("--confirm primary"), "{refused}");
    let said = lab
        .follow("how-to/emptied-store.md", "They are lost for good", &[])
        .await?;
    ensure!(said.out.contains("3 restore points of store"), "{said:?}");
    compare("MISSING: 3 of 6").await?;
    lose(second)?;
    compare("VANISHED: 6 of 6").await
}
