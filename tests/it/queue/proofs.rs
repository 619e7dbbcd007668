//! What a run learns about a restore point is recorded when it ends, and respects what happened to the point in the meantime.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lastgood::{
    catalog::{AuditFilter, NewKey, NewRun, Order, PointRow, Succession},
    proof::NewProof,
    queue::{Condemned, Failure, Lacking, Lane, Outcome},
};
use lastgood_jobs::{
    attempt::RunId,
    error::ErrorKind,
    job::{Job, Verify},
    key::Identity,
    manifest::{Encryption, Scheme},
};
use serde_json::json;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::workers::{
    Gate, Settings, Witness, Workers, becomes, enqueue, report, restore_point, with_a_shop,
};
use crate::{
    database::TestCatalog,
    eventually::{SOON, eventually},
};

/// Records a point of `shop`, this many minutes old, encrypted to a key and stored in `here`.
pub(super) async fn point(db: &TestCatalog, minutes: i32, key: Option<Uuid>) -> Result<Uuid> {
    let id = Uuid::new_v4();
    sqlx::query(
        "with point as (
             insert into lastgood.restore_points
                 (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
             values ($1, 'shop', now() - make_interval(mins => $2), 'v1/' || $1::text, $3, 1, 1)
             returning id, consistent_at
         ),
         resource as (
             update lastgood.resources
             set newest_consistent_at = greatest(newest_consistent_at, point.consistent_at) from point
         )
         insert into lastgood.copies (point_id, store) select id, 'here' from point",
    )
    .bind(id)
    .bind(minutes)
    .bind(json!({ "archive": { "encryption": { "key": key } } }))
    .execute(db.pool())
    .await?;
    Ok(id)
}

pub(super) async fn key(db: &TestCatalog) -> Result<(Uuid, Identity)> {
    let (id, identity) = (Uuid::new_v4(), Identity::generate());
    let key = NewKey {
        id,
        team: Some("acme"),
        recipient: &identity.recipient().to_string(),
        identity: b"sealed",
        under: 1,
        created_at: chrono::Utc::now(),
    };
    db.catalog.add_key(&key, Succession::First).await?;
    Ok((id, identity))
}

pub(super) async fn verify(db: &TestCatalog, point: Uuid) -> Result<RunId> {
    let job = Job::Verify(Verify { point, store: None });
    let new = NewRun {
        resource_id: "shop",
        queue: "postgres",
        job: &job,
        idempotency_key: None,
        asked: None,
    };
    Ok(db
        .catalog
        .enqueue(&new, &Order::new("test", None))
        .await?
        .id())
}

fn whole(point: Uuid) -> Outcome {
    Outcome::Proof {
        point,
        stores: vec!["here".to_owned()],
        report: json!({}),
        proof: proven(point),
    }
}

/// Returns what a verification of the point that finds nothing wrong enters into the ledger.
pub(super) fn proven(point: Uuid) -> Box<NewProof> {
    NewProof::read_whole(point, &["here".to_owned()], Duration::from_millis(1500)).into()
}

fn damaged(point: Uuid) -> Failure {
    Failure {
        condemned: Some(Condemned::Damaged(point)),
        ..Failure::permanent(ErrorKind::Corrupt, "a byte changed")
    }
}

/// Starts workers that wait at the gate, and then report that they have read the run's point and found it intact.
pub(super) fn readers(db: &TestCatalog, witness: &Witness, gate: &Gate) -> Workers {
    let (witness, gate) = (witness.clone(), gate.clone());
    Workers::start(&db.catalog, &Settings::default(), move |run| {
        let (begun, gate) = (witness.begin(&run), gate.clone());
        async move {
            gate.pass().await;
            begun.complete();
            let Job::Verify(job) = &run.args else {
                return Ok(report());
            };
            Ok(whole(job.point))
        }
    })
}

/// Starts workers that condemn the point of each verification.
fn condemners(db: &TestCatalog) -> Workers {
    Workers::start(
        &db.catalog,
        &Settings {
            lane: Lane::Upkeep,
            ..Settings::default()
        },
        |run| async move {
            let Job::Verify(job) = &run.args else {
                return Ok(report());
            };
            Err(damaged(job.point).into())
        },
    )
}

pub(super) async fn is_lost(db: &TestCatalog, id: Uuid) -> Result<PointRow> {
    let point = db.catalog.point(id).await?;
    ensure!(
        point.quarantined_because.as_deref() == Some("its key was shredded"),
        "{point:?}"
    );
    let resource = db.catalog.resource("shop").await?;
    ensure!(resource.newest_consistent_at.is_none(), "{resource:?}");
    Ok(point)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_its_key_was_shredded_is_not_usable_after() -> Result<()> {
    let db = with_a_shop().await?;
    let (id, _) = key(&db).await?;
    let point = point(&db, 5, Some(id)).await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    let workers = readers(&db, &witness, &gate);
    let run = verify(&db, point).await?;
    witness.have_begun(1).await?;
    db.catalog.shred_keys("acme").await?;
    gate.open();
    becomes(&db, run, "succeeded").await?;
    let point = is_lost(&db, point).await?;
    ensure!(point.verified_at.is_none(), "{point:?}");
    workers.stop().await
}

/// Shreds every key in a transaction that is still open.
async fn shredding(db: &TestCatalog) -> Result<Transaction<'_, Postgres>> {
    let mut shredding = db.pool().begin().await?;
    sqlx::query("update lastgood.archive_keys set identity_sealed = null, shredded_at = now(), retired_at = now()")
        .execute(&mut *shredding)
        .await?;
    Ok(shredding)
}

async fn waits_for_the_key(db: &TestCatalog) -> Result<()> {
    eventually(SOON, "the finish waits for the key", async || {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        Ok(db.count(waiting).await? > 0)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shredding_that_is_not_committed_yet_is_waited_for() -> Result<()> {
    let db = with_a_shop().await?;
    let (id, _) = key(&db).await?;
    let point = point(&db, 5, Some(id)).await?;
    sqlx::query("update lastgood.restore_points set quarantined_at = now(), quarantined_because = 'its key was shredded'")
        .execute(db.pool())
        .await?;
    db.execute("update lastgood.resources set newest_consistent_at = null")
        .await?;
    let shredding = shredding(&db).await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    gate.open();
    let workers = readers(&db, &witness, &gate);
    let run = verify(&db, point).await?;
    waits_for_the_key(&db).await?;
    shredding.commit().await?;
    becomes(&db, run, "succeeded").await?;
    is_lost(&db, point).await?;
    workers.stop().await
}

/// Returns workers that make restore points, encrypted to this key, once the gate is open.
fn encrypted(
    db: &TestCatalog,
    (id, identity): (Uuid, Identity),
    witness: &Witness,
    gate: &Gate,
) -> Workers {
    let (witness, gate, recipient) = (witness.clone(), gate.clone(), identity.recipient());
    Workers::start(&db.catalog, &Settings::default(), move |run| {
        let (begun, gate, recipient) = (witness.begin(&run), gate.clone(), recipient.clone());
        async move {
            gate.pass().await;
            begun.complete();
            let mut made = restore_point(&run)?;
            if let Outcome::RestorePoint(point) = &mut made {
                point.manifest.archive.encryption = Some(Encryption {
                    scheme: Scheme::Age,
                    key: id,
                    recipient,
                });
            }
            Ok(made)
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_ends_after_its_key_was_shredded_is_no_point_to_count_on() -> Result<()> {
    let db = with_a_shop().await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    let workers = encrypted(&db, key(&db).await?, &witness, &gate);
    let run = enqueue(&db, "shop").await?;
    witness.have_begun(1).await?;
    db.catalog.shred_keys("acme").await?;
    gate.open();
    becomes(&db, run, "succeeded").await?;
    is_lost(&db, run.0).await?;
    workers.stop().await
}

/// A shredding, retention and a tick lock the resource first. What a proof locks before it, it would hold while it waits for them.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_locks_its_resource_before_anything_else() -> Result<()> {
    let db = with_a_shop().await?;
    let point = point(&db, 10, None).await?;
    let run = verify(&db, point).await?;
    let mut other = db.pool().begin().await?;
    sqlx::query("select from lastgood.resources where id = 'shop' for no key update")
        .execute(&mut *other)
        .await?;
    let workers = Workers::start(&db.catalog, &Settings::default(), move |_| async move {
        Ok(whole(point))
    });
    eventually(SOON, "the end waits for the resource", async || {
        let waiting = "select count(*) from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock' and query like '%fenced ends%'";
        Ok(db.count(waiting).await? == 1)
    })
    .await?;
    for row in [
        "select from lastgood.runs where id = $1 for update nowait",
        "select from lastgood.restore_points where id = $1 for update nowait",
    ] {
        let id = if row.contains("points") { point } else { run.0 };
        sqlx::query(row).bind(id).execute(&mut *other).await?;
    }
    other.commit().await?;
    becomes(&db, run, "succeeded").await?;
    workers.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_waits_for_a_shredding_that_is_not_committed_yet() -> Result<()> {
    let db = with_a_shop().await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    let workers = encrypted(&db, key(&db).await?, &witness, &gate);
    let run = enqueue(&db, "shop").await?;
    witness.have_begun(1).await?;
    let shredding = shredding(&db).await?;
    gate.open();
    waits_for_the_key(&db).await?;
    shredding.commit().await?;
    becomes(&db, run, "succeeded").await?;
    is_lost(&db, run.0).await?;
    workers.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_damage_that_takes_the_newest_usable_point_asks_for_a_backup() -> Result<()> {
    let db = with_a_shop().await?;
    let mut points = Vec::new();
    for minutes in [300, 240, 180, 120, 60] {
        points.push(point(&db, minutes, None).await?);
    }
    let newest = points.pop().context("no point")?;
    let workers = condemners(&db);
    let backups = "select count(*) from lastgood.runs where kind = 'backup'";
    for old in points.split_off(1) {
        let run = verify(&db, old).await?;
        becomes(&db, run, "failed").await?;
    }
    assert_eq!(db.count(backups).await?, 0, "the newest is whole");
    let run = verify(&db, newest).await?;
    becomes(&db, run, "failed").await?;
    assert_eq!(db.count(backups).await?, 1);
    // The oldest point is now the newest, and a backup is on its way.
    let run = verify(&db, points.pop().context("no point")?).await?;
    becomes(&db, run, "failed").await?;
    assert_eq!(db.count(backups).await?, 1);
    let audited = db.catalog.audited(&AuditFilter::newest(10)).await?;
    let told = audited.iter().filter(|it| it.action == "quarantine");
    assert_eq!(told.count(), 5);
    workers.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_let_go_while_it_was_read_is_no_damage() -> Result<()> {
    let db = with_a_shop().await?;
    let point = point(&db, 5, None).await?;
    db.execute("update lastgood.restore_points set expired_at = now(), expired_because = 'old'")
        .await?;
    let workers = condemners(&db);
    let run = verify(&db, point).await?;
    becomes(&db, run, "failed").await?;
    let point = db.catalog.point(point).await?;
    ensure!(point.quarantined_at.is_none(), "{point:?}");
    assert_eq!(
        db.count("select count(*) from lastgood.runs where kind = 'backup'")
            .await?,
        0
    );
    let audited = db.catalog.audited(&AuditFilter::newest(10)).await?;
    ensure!(
        audited.iter().all(|it| it.action == "verify"),
        "{audited:?}"
    );
    workers.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_store_is_proven_by_what_was_read_there_and_one_that_lacks_a_point_gets_it_again()
-> Result<()> {
    let db = with_a_shop().await?;
    let point = point(&db, 5, None).await?;
    db.execute(
        "with store as (insert into lastgood.stores (name) values ('here'), ('far') returning name)
         insert into lastgood.copies (point_id, store) select id, 'far' from lastgood.restore_points",
    )
    .await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    gate.open();
    let workers = readers(&db, &witness, &gate);
    becomes(&db, verify(&db, point).await?, "succeeded").await?;
    let proven =
        "select count(*) from lastgood.copies where verified_at is not null and store = 'here'";
    assert_eq!(db.count(proven).await?, 1);
    assert_eq!(
        db.count("select count(*) from lastgood.copies where verified_at is null")
            .await?,
        1
    );
    workers.stop().await?;

    let workers = Workers::start(&db.catalog, &Settings::default(), |run| async move {
        let Job::Verify(job) = &run.args else {
            return Ok(report());
        };
        let lacking = Some(Box::new(Lacking {
            point: job.point,
            stores: vec!["far".to_owned()],
        }));
        let failure = Failure::permanent(ErrorKind::Corrupt, "missing, and held by another");
        Err(Failure { lacking, ..failure }.into())
    });
    becomes(&db, verify(&db, point).await?, "failed").await?;
    let stores = db.catalog.stores_of(&[point]).await?;
    assert_eq!(stores.get(&point), Some(&vec!["here".to_owned()]));
    let missing = db
        .catalog
        .missing_copies(&["here".to_owned(), "far".to_owned()])
        .await?;
    let missing: Vec<_> = missing
        .iter()
        .map(|it| (it.store.as_str(), it.points))
        .collect();
    assert_eq!(missing, [("far", 1), ("here", 0)]);
    let audited = db.catalog.audited(&AuditFilter::newest(1)).await?;
    ensure!(
        audited[0].action == "copy_lost" && audited[0].point == Some(point),
        "{audited:?}"
    );
    workers.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_of_any_length_keeps_no_backup_waiting_and_no_backup_keeps_upkeep_waiting()
-> Result<()> {
    let db = with_a_shop().await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    let lane = |lane, name| {
        let (witness, gate) = (witness.clone(), gate.clone());
        let settings = Settings {
            lane,
            name,
            slots: 1,
            ..Settings::default()
        };
        Workers::start(&db.catalog, &settings, move |run| {
            let (begun, gate) = (witness.begin(&run), gate.clone());
            async move {
                gate.pass().await;
                begun.complete();
                Ok(report())
            }
        })
    };
    let (upkeep, promised) = (
        lane(Lane::Upkeep, "upkeep"),
        lane(Lane::Promised, "promised"),
    );
    for _ in 0..2 {
        verify(&db, point(&db, 5, None).await?).await?;
    }
    witness.are_running(1).await?;
    let backup = enqueue(&db, "shop").await?;
    enqueue(&db, "shop").await?;
    witness.are_running(2).await?;
    ensure!(
        witness.began().contains(&backup),
        "a backup waits for a verification"
    );
    let running = "select count(distinct kind) from lastgood.runs where state = 'running'";
    assert_eq!(db.count(running).await?, 2);
    gate.open();
    eventually(SOON, "all is done", async || Ok(witness.completed() == 4)).await?;
    upkeep.stop().await?;
    promised.stop().await
}
