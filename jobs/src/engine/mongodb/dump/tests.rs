//! What a dump asks of a server, and what it makes of answers that real servers seldom give.

mod bank;
mod lab;
mod oplog;

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use bson::{Document, doc};

use self::{bank::Bank, lab::Lab};
use crate::{
    engine::mongodb::pretend::{self, Pretend, no},
    error::ErrorKind,
    manifest::{Consistency, Details, Suspect},
};

fn now() -> u32 {
    u32::try_from(chrono::Utc::now().timestamp()).unwrap()
}

/// Starts a bank that answers some commands differently.
async fn bank_but(
    other: impl Fn(&Bank, &Document) -> Option<Document> + Send + Sync + 'static,
) -> Result<Pretend> {
    let bank = Bank::at(now());
    let answer =
        move |command: &Document| other(&bank, command).unwrap_or_else(|| bank.answer(command));
    Pretend::start("7.0.1", answer).await
}

fn is(command: &Document, wanted: &str) -> bool {
    pretend::name(command) == wanted
}

fn total(documents: &[(usize, Document)]) -> i32 {
    let holds = |(_, it): &(usize, Document)| it.get_i32("holds").unwrap();
    documents.iter().map(holds).sum()
}

async fn fails(server: &Pretend, kind: ErrorKind, is_permanent: bool) -> Result<String> {
    let lab = Lab::new().await?;
    let error = lab.dump(server).await.err().context("the dump succeeded")?;
    assert_eq!(error.kind(), kind, "{}", error.report());
    assert_eq!(error.is_permanent(), is_permanent, "{}", error.report());
    assert!(lab.is_empty()?, "something is left in the store");
    Ok(error.report())
}

#[tokio::test]
async fn money_that_moves_during_a_dump_is_counted_once() -> Result<()> {
    let server = bank_but(|_, _| None).await?;
    let lab = Lab::new().await?;
    let dumped = lab.dump(&server).await?;
    let documents = lab.documents()?;
    assert_eq!((documents.len(), total(&documents)), (20, bank::TOTAL));
    assert_eq!(dumped.consistency, Consistency::Snapshot);
    assert_eq!(dumped.warnings, Vec::<String>::new());
    // One for the mark of a restore, one for the collections, and two for the lists around the instant.
    assert_eq!(server.asked("listCollections").len(), 4);
    Ok(())
}

/// The pretend bank keeps its books of every instant, as MongoDB does. The restore goes into the tests' real server.
#[tokio::test]
async fn a_bank_that_was_dumped_while_money_moved_adds_up_where_it_is_restored() -> Result<()> {
    let server = bank_but(|_, _| None).await?;
    let lab = Lab::new().await?;
    let point = lab.back_up(&server).await?;
    assert_eq!(point.manifest.consistency, Consistency::Snapshot);
    let restored = lab.restore(&point).await?;
    let mut holds = Vec::new();
    for collection in ["giving", "taking"] {
        let mut found = restored
            .collection::<Document>(collection)
            .find(doc! {})
            .await?;
        while found.advance().await? {
            holds.push(found.deserialize_current()?.get_i32("holds")?);
        }
    }
    restored.drop().await?;
    assert_eq!((holds.len(), holds.iter().sum()), (20, bank::TOTAL));
    // Unless money moved in the meantime, any dump would add up.
    assert!(bank::TOTAL / 20 - holds[0] > 3, "{holds:?}");
    Ok(())
}

#[tokio::test]
async fn what_a_restore_left_is_not_dumped_and_its_mark_is_told() -> Result<()> {
    let server = bank_but(|bank, command| {
        is(command, "listCollections").then(|| {
            let mut told = bank.answer(command);
            let cursor = told.get_document_mut("cursor").unwrap();
            let listed = cursor.get_array_mut("firstBatch").unwrap();
            listed.push(bank::collection("lastgood_restore.mark", "collection", doc! {}).into());
            told
        })
    })
    .await?;
    let lab = Lab::new().await?;
    let dumped = lab.dump(&server).await?;
    assert_eq!(lab.documents()?.len(), 20);
    assert_eq!(dumped.consistency, Consistency::Snapshot);
    let [suspicion] = &dumped.suspicions[..] else {
        anyhow::bail!("{:?}", dumped.suspicions);
    };
    assert_eq!(suspicion.reason, Suspect::UnfinishedRestore);
    assert!(
        suspicion
            .because
            .starts_with("bank: a restore into it was running"),
        "{suspicion:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_server_that_shows_another_instant_is_not_believed() -> Result<()> {
    let server = bank_but(|bank, command| {
        let mut forgetful = command.clone();
        let concern = forgetful.get_document_mut("readConcern").ok()?;
        concern.remove("atClusterTime");
        Some(bank.answer(&forgetful))
    })
    .await?;
    let lab = Lab::new().await?;
    let dumped = lab.dump(&server).await?;
    assert_ne!(total(&lab.documents()?), bank::TOTAL);
    assert_eq!(dumped.consistency, Consistency::None);
    let warning = dumped.warnings.first().context("no warning")?;
    assert!(
        warning.starts_with("bank.giving, bank.taking: "),
        "{warning}"
    );
    Ok(())
}

#[tokio::test]
async fn a_dump_is_never_newer_than_what_it_shows() -> Result<()> {
    let an_hour_ago = now() - 3600;
    let bank = Bank::at(an_hour_ago);
    let behind = Pretend::start("7.0.1", move |command| bank.answer(command)).await?;
    let dumped = Lab::new().await?.dump(&behind).await?;
    assert_eq!(dumped.consistent_at.timestamp(), i64::from(an_hour_ago));

    let before = chrono::Utc::now();
    let bank = Bank::at(now() + 3600);
    let ahead = Pretend::start("7.0.1", move |command| bank.answer(command)).await?;
    let dumped = Lab::new().await?.dump(&ahead).await?;
    assert!(before <= dumped.consistent_at && dumped.consistent_at <= chrono::Utc::now());
    Ok(())
}

/// Returns how often a snapshot was asked for.
fn takes(server: &Pretend) -> usize {
    let finds = server.asked("find");
    // Reading the oplog's first entry does not count.
    let is_take = |it: &&Document| {
        it.get_i32("limit").is_ok_and(|it| it == 1)
            && it.get_str("find").is_ok_and(|it| it != "oplog.rs")
    };
    finds.iter().filter(is_take).count()
}

#[rstest::rstest]
#[case::a_little(5, 5)]
// After all tries the primary is next; here it is the same server and just as far behind.
#[case::too_far(10_000, 3 * 50)]
#[tokio::test]
async fn a_secondary_that_is_behind_the_list_of_collections_is_waited_for(
    #[case] commands: u32,
    #[case] asked: usize,
) -> Result<()> {
    let server = bank_but(move |bank, command| {
        let ahead = bank.time(bank.now() + commands);
        is(command, "ping").then(|| doc! {"ok": 1.0, "operationTime": ahead})
    })
    .await?;
    let lab = Lab::new().await?;
    let dumped = lab.dump(&server).await?;
    assert_eq!(takes(&server), asked);
    let is_caught_up = asked < 50;
    assert_eq!(dumped.consistency == Consistency::Snapshot, is_caught_up);
    Ok(())
}

#[tokio::test]
async fn what_has_no_snapshot_is_read_after_it_and_told() -> Result<()> {
    let server = bank_but(|bank, command| {
        if is(command, "listCollections") {
            let mut told = bank.answer(command);
            let cursor = told.get_document_mut("cursor").unwrap();
            let listed = cursor.get_array_mut("firstBatch").unwrap();
            listed.push(bank::collection("log", "collection", doc! {"capped": true}).into());
            return Some(told);
        }
        let is_snapshot = command
            .get_document("readConcern")
            .ok()?
            .get_str("level")
            .ok()?
            == "snapshot";
        (command.get_str("find").ok()? == "log" && is_snapshot).then(|| no(246))
    })
    .await?;
    let lab = Lab::new().await?;
    let dumped = lab.dump(&server).await?;
    assert_eq!(lab.documents()?.len(), 30);
    assert_eq!(dumped.consistency, Consistency::Snapshot);
    assert_eq!(exceptions(&dumped), ["bank.log"]);
    let warning = dumped.warnings.first().context("no warning")?;
    assert!(warning.starts_with("bank.log: "), "{warning}");
    let reads = server.asked("find");
    let last = reads
        .iter()
        .rfind(|it| it.get_str("find").is_ok_and(|it| it == "log"));
    let concern = last.context("not read")?.get_document("readConcern")?;
    assert_eq!(concern.get_str("level")?, "majority");
    assert!(concern.contains_key("afterClusterTime"));
    Ok(())
}

#[tokio::test]
async fn a_server_without_snapshots_is_read_all_the_same_and_the_manifest_says_so() -> Result<()> {
    let server = bank_but(|_, command| {
        let concern = command.get_document("readConcern").ok()?;
        (concern.get_str("level").ok()? == "snapshot").then(|| no(246))
    })
    .await?;
    let lab = Lab::new().await?;
    let dumped = lab.dump(&server).await?;
    assert_eq!(lab.documents()?.len(), 20);
    assert_eq!(dumped.consistency, Consistency::None);
    assert!(
        dumped
            .warnings
            .first()
            .context("no warning")?
            .contains("error 246")
    );
    Ok(())
}

#[tokio::test]
async fn indexes_that_change_around_the_instant_are_told() -> Result<()> {
    let server = bank_but(|bank, command| {
        let told = bank.answer(command);
        let time = i32::try_from(bank.now()).unwrap();
        let index = doc! {"v": 2, "key": {"x": 1}, "name": "x", "expireAfterSeconds": time};
        let is_changing = command
            .get_str("listIndexes")
            .is_ok_and(|it| it == "taking");
        is_changing
            .then(|| bank::cursor("bank.taking", vec![index]))
            .or(Some(told))
    })
    .await?;
    let dumped = Lab::new().await?.dump(&server).await?;
    assert_eq!(dumped.consistency, Consistency::Snapshot);
    assert_eq!(exceptions(&dumped), ["bank.taking"]);
    let warning = dumped.warnings.first().context("no warning")?;
    assert!(
        warning.starts_with("bank.taking: its options or indexes"),
        "{warning}"
    );
    Ok(())
}

/// Returns the collections that a dump says are not of its instant.
fn exceptions(dumped: &crate::engine::answer::Dumped) -> Vec<String> {
    match &dumped.details {
        Details::Mongodb { exceptions, .. } => exceptions.clone(),
        Details::Postgres { .. } | Details::Redis { .. } => Vec::new(),
    }
}

#[tokio::test]
async fn a_snapshot_that_grew_too_old_where_no_oplog_is_read_is_done_without_and_told() -> Result<()>
{
    let is_first = std::sync::atomic::AtomicBool::new(true);
    let server = bank_but(move |_, command| {
        (is(command, "getMore") && is_first.swap(false, Ordering::SeqCst)).then(|| no(239))
    })
    .await?;
    let lab = Lab::new().await?;
    let dumped = lab.dump(&server).await?;
    assert_eq!(dumped.consistency, Consistency::None);
    assert_eq!(lab.documents()?.len(), 20);
    let warning = dumped.warnings.first().context("no warning")?;
    for part in [
        "minSnapshotHistoryWindowInSeconds",
        "the oplog cannot be read",
    ] {
        assert!(warning.contains(part), "{warning}");
    }
    Ok(())
}

/// To the driver, such a server is merely away, and might come back.
#[tokio::test]
async fn a_server_that_is_older_than_the_driver_supports_is_refused_for_good() -> Result<()> {
    let server = Pretend::start("4.2.25", |_| no(59)).await?;
    let report = fails(&server, ErrorKind::Config, true).await?;
    assert!(report.contains("MongoDB 4.4"), "{report}");
    Ok(())
}

#[rstest::rstest]
#[case::dropped(175)]
#[case::cursor_gone(43)]
#[case::killed(237)]
#[tokio::test]
async fn a_collection_that_goes_half_way_each_time_is_named(#[case] code: i32) -> Result<()> {
    let server = bank_but(move |_, command| {
        let is_it = command.get_str("collection").is_ok_and(|it| it == "taking");
        (is(command, "getMore") && is_it).then(|| no(code))
    })
    .await?;
    let dumped = Lab::new().await?.dump(&server).await?;
    assert_eq!(dumped.consistency, Consistency::Snapshot);
    assert_eq!(exceptions(&dumped), ["bank.taking"]);
    let warning = dumped.warnings.first().context("no warning")?;
    assert!(warning.contains("may have only part of it"), "{warning}");
    Ok(())
}

#[tokio::test]
async fn a_collection_that_was_dropped_before_its_turn_is_not_taken_for_empty() -> Result<()> {
    let lists = AtomicU32::new(0);
    let server = bank_but(move |_, command| {
        let is_list = is(command, "listCollections") && !command.contains_key("filter");
        if is_list && lists.fetch_add(1, Ordering::SeqCst) >= 2 {
            let only = bank::collection("giving", "collection", doc! {});
            return Some(bank::cursor("bank.$cmd.listCollections", vec![only]));
        }
        let is_gone = command.get_str("find").is_ok_and(|it| it == "taking");
        is_gone.then(|| bank::cursor("bank.taking", Vec::new()))
    })
    .await?;
    let dumped = Lab::new().await?.dump(&server).await?;
    assert_eq!(dumped.consistency, Consistency::Snapshot);
    let Details::Mongodb { collections, .. } = dumped.details else {
        anyhow::bail!("{:?}", dumped.details);
    };
    assert_eq!(collections, 1, "taken for empty");
    Ok(())
}

/// Lists one time series, and its buckets if the test wants them.
fn time_series(command: &Document, buckets: Option<&str>) -> Option<Document> {
    let mut listed = vec![bank::collection(
        "ts",
        "timeseries",
        doc! {"timeseries": {"timeField": "t"}},
    )];
    listed.extend(buckets.map(|it| bank::collection(it, "collection", doc! {})));
    is(command, "listCollections").then(|| bank::cursor("bank.$cmd.listCollections", listed))
}

#[rstest::rstest]
#[case::beside("7.0.1", Some("system.buckets.ts"), "system.buckets.ts", false)]
#[case::in_place("8.3.0", None, "ts", true)]
#[tokio::test]
async fn a_time_series_is_dumped_bucket_by_bucket(
    #[case] version: &'static str,
    #[case] buckets: Option<&'static str>,
    #[case] read: &str,
    #[case] is_raw: bool,
) -> Result<()> {
    let bank = Bank::at(now());
    let answer = move |command: &Document| {
        time_series(command, buckets).unwrap_or_else(|| bank.answer(command))
    };
    let server = Pretend::start(version, answer).await?;
    let lab = Lab::new().await?;
    let dumped = lab.dump(&server).await?;
    assert_eq!(dumped.consistency, Consistency::Snapshot);
    assert_eq!(lab.documents()?.len(), 10);
    let reads = server.asked("find");
    let last = reads.last().context("nothing was read")?;
    assert_eq!(
        (last.get_str("find")?, last.get_bool("rawData").is_ok()),
        (read, is_raw)
    );
    Ok(())
}

#[tokio::test]
async fn a_time_series_without_buckets_is_not_taken_for_empty() -> Result<()> {
    let server = bank_but(|_, command| time_series(command, None)).await?;
    let report = fails(&server, ErrorKind::Dump, true).await?;
    assert!(
        report.contains("the time series bank.ts cannot be dumped"),
        "{report}"
    );
    Ok(())
}

#[tokio::test]
async fn an_unknown_kind_of_collection_fails_the_dump_by_name() -> Result<()> {
    let server = bank_but(|_, command| {
        let listed = vec![bank::collection("new", "hologram", doc! {})];
        is(command, "listCollections").then(|| bank::cursor("bank.$cmd.listCollections", listed))
    })
    .await?;
    let report = fails(&server, ErrorKind::Dump, true).await?;
    assert!(report.contains("bank.new is of a kind"), "{report}");
    Ok(())
}

#[tokio::test]
async fn what_is_no_documents_fails_the_dump() -> Result<()> {
    let server = bank_but(|_, command| {
        let odd = doc! {"ok": 1.0, "cursor": {"id": 0_i64, "ns": "bank.any", "nextBatch": [1, 2]}};
        is(command, "getMore").then_some(odd)
    })
    .await?;
    let report = fails(&server, ErrorKind::Internal, false).await?;
    assert!(
        report.contains("no documents where they belong"),
        "{report}"
    );
    Ok(())
}
