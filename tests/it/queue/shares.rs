//! What a limit counts and what it does not: a team's share of a queue, its default, and the dumps of one server.

use anyhow::Result;
use rstest::rstest;

use super::{
    claims_by_hand::{Claim, ask, succeed},
    workers::enqueue_many,
};
use crate::database::TestCatalog;

/// Registers this many resources of a team: `team-1`, `team-2` and so on.
async fn resources(db: &TestCatalog, team: &str, count: i32) -> Result<()> {
    for i in 1..=count {
        db.add(&format!("{team}-{i}"), team, "pro").await?;
    }
    Ok(())
}

/// Returns how many of the claimed runs are of a kind.
fn of_kind(taken: &[(String, String)], kind: &str) -> usize {
    taken.iter().filter(|(it, _)| it == kind).count()
}

#[tokio::test]
async fn a_teams_restores_and_its_upkeep_are_counted_apart_from_its_other_runs() -> Result<()> {
    let db = TestCatalog::create().await?;
    resources(&db, "acme", 4).await?;
    for i in 1..=4 {
        for kind in ["backup", "restore", "copy", "verify", "expire"] {
            ask(&db, "postgres", kind, &format!("acme-{i}")).await?;
        }
    }
    let claim = Claim {
        team_slots: Some(2),
        ..Claim::default()
    };
    let taken = claim.take(&db).await?;
    assert_eq!(of_kind(&taken, "backup"), 2, "{taken:?}");
    assert_eq!(of_kind(&taken, "restore"), 2, "{taken:?}");
    assert_eq!(taken.len(), 6, "two of upkeep of whatever kind: {taken:?}");
    assert!(claim.take(&db).await?.is_empty(), "all shares are taken");

    // One run of each share ends, so one of each may begin.
    for kinds in [
        &["backup"][..],
        &["restore"][..],
        &["copy", "verify", "expire"][..],
    ] {
        let id = sqlx::query_scalar(
            "select id from lastgood.runs where state = 'running' and kind = any ($1) limit 1",
        )
        .bind(kinds)
        .fetch_one(db.pool())
        .await?;
        succeed(&db, id).await?;
        let taken = claim.take(&db).await?;
        assert_eq!(taken.len(), 1, "{taken:?}");
        assert!(taken.iter().all(|(kind, _)| kinds.contains(&kind.as_str())));
    }
    Ok(())
}

#[tokio::test]
async fn each_kind_of_run_counts_against_its_own_share_alone() -> Result<()> {
    let db = TestCatalog::create().await?;
    resources(&db, "acme", 2).await?;
    let claim = Claim {
        team_slots: Some(1),
        ..Claim::default()
    };
    let shares: [&[&str]; 3] = [
        &["backup", "drop_replaced"],
        &["restore"],
        &["copy", "verify", "expire"],
    ];
    for share in shares {
        for runs in share {
            for waits in shares.iter().copied().flatten() {
                ask(&db, "postgres", runs, "acme-1").await?;
                assert_eq!(claim.take(&db).await?.len(), 1);
                ask(&db, "postgres", waits, "acme-2").await?;
                let taken = claim.take(&db).await?.len();
                let expected = usize::from(!share.contains(waits));
                assert_eq!(taken, expected, "a {waits} beside a {runs}");
                db.execute("delete from lastgood.runs").await?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_team_is_counted_in_its_own_queue_alone_and_no_other_team_with_it() -> Result<()> {
    let db = TestCatalog::create().await?;
    resources(&db, "acme", 3).await?;
    resources(&db, "umbrella", 1).await?;
    for i in 1..=3 {
        let id = format!("acme-vectors-{i}");
        db.add_on("vector", &id, "acme", "pro").await?;
        ask(&db, "vector", "backup", &id).await?;
        ask(&db, "postgres", "backup", &format!("acme-{i}")).await?;
    }
    let in_queue = |queue| Claim {
        queue,
        team_slots: Some(2),
        ..Claim::default()
    };
    assert_eq!(in_queue("vector").take(&db).await?.len(), 2);
    assert_eq!(in_queue("postgres").take(&db).await?.len(), 2);
    ask(&db, "postgres", "backup", "umbrella-1").await?;
    let expected = [("backup".to_owned(), "umbrella-1".to_owned())];
    assert_eq!(in_queue("postgres").take(&db).await?, expected);
    Ok(())
}

/// A description, the lane, the consumers, and how many of the team's runs are claimed.
type Case = (&'static str, (i16, i16), &'static [&'static str], usize);

/// Registers a consumer from the table's words: its queues, its slots and its state.
async fn consumer(db: &TestCatalog, said: &str) -> Result<()> {
    let [queues, slots, state] = said.split(' ').collect::<Vec<_>>()[..] else {
        anyhow::bail!("{said}");
    };
    sqlx::query(
        "insert into lastgood.consumers (id, host, pid, version, queues, slots, capabilities, state, seen_at)
         values (gen_random_uuid()::text, 'h', 1, '0', string_to_array($1, '+'), $2, '[]',
             case $3 when 'unseen' then 'running' else $3 end, case $3 when 'unseen' then now() - interval '1 minute' else now() end)",
    )
    .bind(queues)
    .bind(slots.parse::<i32>()?)
    .bind(state)
    .execute(db.pool())
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_teams_share_is_half_of_the_slots_of_the_consumers_that_take_runs_of_its_queue()
-> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("acme", "acme", "pro").await?;
    enqueue_many(&db, "acme", 30).await?;
    // The same number waits in each lane.
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, priority, args)
           select queue, 'verify', 'upkeep', resource_id, -10, '{"kind": "verify"}' from lastgood.runs"#,
    )
    .await?;
    let (whole, promised, upkeep) = ((i16::MIN, i16::MAX), (0, i16::MAX), (i16::MIN, -1));
    let table: [Case; 13] = [
        ("without consumers, no limit", upkeep, &[], 30),
        (
            "nor with another queue's alone",
            promised,
            &["vector 8 running"],
            30,
        ),
        ("two at least", promised, &["postgres 1 running"], 2),
        ("rounded up", promised, &["postgres 7 running"], 4),
        (
            "of all together, and not of each",
            promised,
            &["postgres 5 running", "vector+postgres 10 running"],
            8,
        ),
        (
            "not another queue's",
            promised,
            &["postgres 6 running", "vector 20 running"],
            3,
        ),
        (
            "not who drains",
            promised,
            &["postgres 6 running", "postgres 20 draining"],
            3,
        ),
        (
            "not who stopped",
            promised,
            &["postgres 6 running", "postgres 20 stopped"],
            3,
        ),
        (
            "not whom nobody sees",
            promised,
            &["postgres 6 running", "postgres 20 unseen"],
            3,
        ),
        (
            "upkeep has half, rounded down",
            upkeep,
            &["postgres 13 running"],
            3,
        ),
        (
            "upkeep has one at least",
            upkeep,
            &["postgres 1 running"; 8],
            4,
        ),
        (
            "two at least of upkeep, too",
            upkeep,
            &["postgres 2 running"],
            2,
        ),
        // Counted separately in the one lane: five backups and five verifications.
        (
            "all slots where the lanes are one",
            whole,
            &["postgres 10 running"],
            10,
        ),
    ];
    for (why, lane, consumers, expected) in table {
        db.execute("delete from lastgood.consumers").await?;
        for said in consumers {
            consumer(&db, said).await?;
        }
        let claim = Claim {
            team_slots: None,
            lane,
            ..Claim::default()
        };
        assert_eq!(claim.take(&db).await?.len(), expected, "{why}");
        db.execute(
            "update lastgood.runs set state = 'queued', attempt = 0, epoch = epoch + 1, lease_by = null, lease_until = null
             where state = 'running'",
        )
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn dumps_of_one_server_count_together_whatever_their_queue_and_restores_do_not() -> Result<()>
{
    let db = TestCatalog::create().await?;
    for i in 1..=3 {
        db.add(&format!("rows-{i}"), "acme", "pro").await?;
        let vectors = format!("vectors-{i}");
        db.add_on("vector", &vectors, "umbrella", "pro").await?;
    }
    db.add("elsewhere", "acme", "pro").await?;
    db.add("nobody-knows-where", "acme", "pro").await?;
    db.execute(
        "update lastgood.resources
         set server = case id when 'elsewhere' then 'two:5432' else 'one:5432' end where id <> 'nobody-knows-where'",
    )
    .await?;
    let in_queue = |queue| Claim {
        queue,
        server_slots: 2,
        ..Claim::default()
    };
    // A restore writes to the server, and upkeep reads only the store; neither is a dump of the server.
    for kind in ["restore", "drop_replaced", "verify", "copy", "expire"] {
        for i in 1..=3 {
            ask(&db, "postgres", kind, &format!("rows-{i}")).await?;
        }
    }
    assert_eq!(in_queue("postgres").take(&db).await?.len(), 15);

    // A restore does not keep its resource from being dumped either.
    let first = ask(&db, "postgres", "backup", "rows-1").await?;
    assert_eq!(in_queue("postgres").runs(&db).await?, [first]);
    for i in 1..=3 {
        ask(&db, "vector", "backup", &format!("vectors-{i}")).await?;
    }
    assert_eq!(in_queue("vector").take(&db).await?.len(), 1);
    for id in ["rows-2", "rows-3", "elsewhere", "nobody-knows-where"] {
        ask(&db, "postgres", "backup", id).await?;
    }
    let taken = in_queue("postgres").take(&db).await?;
    let elsewhere = ["elsewhere", "nobody-knows-where"].map(|id| ("backup".to_owned(), id.into()));
    assert_eq!(taken, elsewhere);

    succeed(&db, first).await?;
    assert_eq!(in_queue("vector").take(&db).await?.len(), 1);
    assert!(in_queue("postgres").take(&db).await?.is_empty());
    Ok(())
}

/// Counted are the scheduled runs of the queue itself.
#[rstest]
#[case::scheduled("attempt = 2", 1)]
#[case::for_the_first_time("attempt = 1", 2)]
#[case::of_another_queue("attempt = 2, queue = 'mongodb'", 2)]
#[case::ad_hoc("attempt = 2, trigger = 'adhoc', slot = null", 2)]
#[tokio::test]
async fn what_runs_again_after_a_failure_takes_a_slot_of_those_that_failed(
    #[case] running: &str,
    #[case] expected: usize,
) -> Result<()> {
    let db = TestCatalog::create().await?;
    resources(&db, "evil", 4).await?;
    for i in 1..=4 {
        ask(&db, "postgres", "backup", &format!("evil-{i}")).await?;
    }
    db.execute(
        "update lastgood.runs set trigger = 'scheduled', slot = now(), attempt = 1, epoch = 1",
    )
    .await?;
    let begun = format!(
        "update lastgood.runs
         set state = 'running', epoch = 2, lease_by = 'w', lease_until = now() + interval '1 hour', {running}
         where resource_id = 'evil-1'"
    );
    sqlx::query(sqlx::AssertSqlSafe(begun))
        .execute(db.pool())
        .await?;
    // One of the three slots is never theirs.
    consumer(&db, "postgres 3 running").await?;
    assert_eq!(Claim::default().take(&db).await?.len(), expected);
    Ok(())
}

#[tokio::test]
async fn one_dump_of_a_resource_runs_at_a_time_and_its_restore_or_upkeep_beside_it() -> Result<()> {
    let db = TestCatalog::create().await?;
    resources(&db, "acme", 1).await?;
    let first = ask(&db, "postgres", "backup", "acme-1").await?;
    ask(&db, "postgres", "backup", "acme-1").await?;
    assert_eq!(Claim::default().take(&db).await?.len(), 1);
    ask(&db, "postgres", "restore", "acme-1").await?;
    ask(&db, "postgres", "verify", "acme-1").await?;
    let beside = ["restore", "verify"].map(|kind| (kind.to_owned(), "acme-1".to_owned()));
    assert_eq!(Claim::default().take(&db).await?, beside);
    succeed(&db, first).await?;
    let second = [("backup".to_owned(), "acme-1".to_owned())];
    assert_eq!(Claim::default().take(&db).await?, second);
    Ok(())
}

/// Of a connection behind a reference, nobody knows the server until it was opened once.
#[tokio::test]
async fn resources_of_unknown_servers_share_no_servers_limit_but_have_the_others() -> Result<()> {
    let db = TestCatalog::create().await?;
    resources(&db, "acme", 3).await?;
    db.execute("update lastgood.resources set server = null")
        .await?;
    for _ in 0..2 {
        for i in 1..=3 {
            ask(&db, "postgres", "backup", &format!("acme-{i}")).await?;
        }
    }
    let claim = Claim {
        server_slots: 1,
        ..Claim::default()
    };
    let one_of_each = [1, 2, 3].map(|i| ("backup".to_owned(), format!("acme-{i}")));
    assert_eq!(claim.take(&db).await?, one_of_each);
    Ok(())
}

/// One customer's unresponsive servers hold each slot until a timeout. Somebody else's database must still get one.
#[tokio::test]
async fn what_failed_before_leaves_a_slot_to_what_can_be_backed_up() -> Result<()> {
    let table = [
        (
            "one slot is for whoever is due first",
            "postgres 1 running",
            1,
        ),
        ("one of two is left", "postgres 2 running", 1),
        ("one of four", "postgres 4 running", 3),
        ("a quarter of many", "postgres 12 running", 9),
    ];
    for (why, said, expected) in table {
        let db = TestCatalog::create().await?;
        resources(&db, "evil", 12).await?;
        resources(&db, "acme", 1).await?;
        // Half of them failed for good, the others in an earlier attempt of the waiting run.
        for i in 1..=12 {
            ask(&db, "postgres", "backup", &format!("evil-{i}")).await?;
        }
        db.execute("update lastgood.runs set trigger = 'scheduled', slot = now()")
            .await?;
        db.execute("update lastgood.runs set attempt = 1, epoch = 1 where resource_id < 'evil-2'")
            .await?;
        db.execute("update lastgood.resources set failures_in_a_row = 1 where id >= 'evil-2'")
            .await?;
        consumer(&db, said).await?;
        let claim = Claim::default();
        assert_eq!(claim.take(&db).await?.len(), expected, "{why}");
        let versions = "select string_agg(xmin::text, ' ' order by id) from lastgood.runs where held_by = 'failing'";
        let before: String = sqlx::query_scalar(versions).fetch_one(db.pool()).await?;
        assert_eq!(claim.take(&db).await?.len(), 0, "{why}");
        let after: String = sqlx::query_scalar(versions).fetch_one(db.pool()).await?;
        assert_eq!(after, before, "{why}: their line moved");
        // They were first, but a run waiting for one of their slots holds up no other.
        ask(&db, "postgres", "backup", "acme-1").await?;
        db.execute("update lastgood.runs set trigger = 'scheduled', slot = now() where resource_id = 'acme-1'")
            .await?;
        let healthy = [("backup".to_owned(), "acme-1".to_owned())];
        assert_eq!(claim.take(&db).await?, healthy, "{why}");
        // A resource that was repaired waits for none of them.
        let waits = "select resource_id from lastgood.runs where state = 'queued' and held_by = 'failing' limit 1";
        let mended: String = sqlx::query_scalar(waits).fetch_one(db.pool()).await?;
        for of in ["failures_in_a_row = 1", "failures_in_a_row = 0"] {
            let statement = format!("update lastgood.resources set {of} where id = $1");
            sqlx::query(sqlx::AssertSqlSafe(statement))
                .bind(&mended)
                .execute(db.pool())
                .await?;
        }
        let held = "select count(*) from lastgood.runs where resource_id = $1 and held_by <> ''";
        let held: i64 = sqlx::query_scalar(held)
            .bind(&mended)
            .fetch_one(db.pool())
            .await?;
        assert_eq!(held, 0, "{why}");
        sqlx::query("delete from lastgood.runs where resource_id = $1 and state = 'queued'")
            .bind(&mended)
            .execute(db.pool())
            .await?;
        // Slots that nobody else needs are theirs again.
        let ended = "select id from lastgood.runs where state = 'running' and resource_id like 'evil%' limit 1";
        let ended = sqlx::query_scalar(ended).fetch_one(db.pool()).await?;
        succeed(&db, ended).await?;
        assert_eq!(claim.take(&db).await?.len(), 1, "{why}");
    }
    Ok(())
}

#[tokio::test]
async fn what_never_failed_takes_no_slot_of_what_failed_before() -> Result<()> {
    let db = TestCatalog::create().await?;
    resources(&db, "acme", 4).await?;
    for i in 1..=4 {
        ask(&db, "postgres", "backup", &format!("acme-{i}")).await?;
    }
    db.execute("update lastgood.runs set trigger = 'scheduled', slot = now(), due_by = now()")
        .await?;
    // The last one in the order of a claim. One of the four slots is never for what failed.
    db.execute(
        "update lastgood.runs set attempt = 1, epoch = 1, due_by = now() + interval '1 hour' where resource_id = 'acme-4'",
    )
    .await?;
    consumer(&db, "postgres 4 running").await?;
    assert_eq!(Claim::default().take(&db).await?.len(), 4);
    Ok(())
}

#[tokio::test]
async fn restores_and_whatever_waits_without_consumers_know_no_limit_of_what_failed() -> Result<()>
{
    let db = TestCatalog::create().await?;
    resources(&db, "acme", 6).await?;
    for i in 1..=6 {
        ask(&db, "postgres", "restore", &format!("acme-{i}")).await?;
    }
    db.execute("update lastgood.resources set failures_in_a_row = 1")
        .await?;
    db.execute("update lastgood.runs set attempt = 1, epoch = 1")
        .await?;
    consumer(&db, "postgres 2 running").await?;
    let claim = Claim::default();
    assert_eq!(claim.take(&db).await?.len(), 6);
    db.execute("delete from lastgood.runs").await?;
    db.execute("delete from lastgood.consumers").await?;
    for i in 1..=6 {
        ask(&db, "postgres", "backup", &format!("acme-{i}")).await?;
    }
    assert_eq!(claim.take(&db).await?.len(), 6);
    Ok(())
}
