//! A lane takes only its own runs, even if it is idle and the other has a backlog.

use anyhow::Result;
use lastgood::queue::Lane;
use lastgood_jobs::attempt::RunId;

use super::{
    claims_by_hand::ask,
    workers::{Settings, Witness, Workers, becomes, report, with_a_shop},
};
use crate::database::TestCatalog;

/// Enqueues a run with a priority, of a kind that can have it.
async fn waits_with(db: &TestCatalog, priority: i16) -> Result<RunId> {
    let kind = if priority < 0 { "verify" } else { "backup" };
    let resource = format!("shop-{priority}");
    db.add(&resource, "acme", "pro").await?;
    let id = ask(db, "postgres", kind, &resource).await?;
    sqlx::query("update lastgood.runs set priority = $2 where id = $1")
        .bind(id)
        .bind(priority)
        .execute(db.pool())
        .await?;
    Ok(id)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_lane_takes_nothing_of_the_other() -> Result<()> {
    for lane in [Lane::Upkeep, Lane::Promised] {
        let db = with_a_shop().await?;
        let mut upkeep = Vec::new();
        let mut promised = Vec::new();
        for priority in [-30, -1, 0, 100] {
            let id = waits_with(&db, priority).await?;
            if priority < 0 {
                upkeep.push(id);
            } else {
                promised.push(id);
            }
        }
        let (own, other) = if lane == Lane::Upkeep {
            (upkeep, promised)
        } else {
            (promised, upkeep)
        };
        // There are slots for all of them, so a claim that could take the other lane's runs would.
        let settings = Settings {
            lane,
            slots: 10,
            ..Settings::default()
        };
        let witness = Witness::default();
        let w = witness.clone();
        let workers = Workers::start(&db.catalog, &settings, move |run| {
            let begun = w.begin(&run);
            async move {
                begun.complete();
                Ok(report())
            }
        });
        for id in &own {
            becomes(&db, *id, "succeeded").await?;
        }
        // One more run, for another claim.
        let last = if lane == Lane::Upkeep { -20 } else { 50 };
        let last = waits_with(&db, last).await?;
        becomes(&db, last, "succeeded").await?;
        workers.stop().await?;
        assert_eq!(witness.began().len(), 3, "{lane:?}");
        for id in other {
            let run = db.catalog.run(id).await?;
            assert_eq!((run.state.as_str(), run.attempt), ("queued", 0), "{lane:?}");
        }
    }
    Ok(())
}
