//! What a limit counts, and what it does not: a team's share of a queue, its default, and the dumps of one server.

use anyhow::Result;

use super::{
    claims_by_hand::{Claim, ask, succeed},
    workers::enqueue_many,
};
use crate::database::TestCatalog;

/// Registers so many resources of a team, `team-1` and on.
async fn resources(db: &TestCatalog, team: &str, count: i32) -> Result<()> {
    for i in 1..=count {
        db.add(&format!("{team}-{i}"), team, "pro").await?;
    }
    Ok(())
}

/// Returns how many of these are of a kind.
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

    // One of each share ends, and one of each may begin.
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

#[tokio::test]
async fn a_teams_share_is_half_of_the_slots_of_the_consumers_that_take_runs_of_its_queue()
-> Result<()> {
    // A consumer: its queues, slots, state, and whether it is alive.
    type Consumer = (&'static [&'static str], i32, &'static str, bool);
    const WHOLE: (i16, i16) = (i16::MIN, i16::MAX);
    const UPKEEP: (i16, i16) = (i16::MIN, -1);
    const POSTGRES: &[&str] = &["postgres"];
    const BOTH: &[&str] = &["vector", "postgres"];
    const VECTOR: &[&str] = &["vector"];

    let db = TestCatalog::create().await?;
    db.add("acme", "acme", "pro").await?;
    enqueue_many(&db, "acme", 30).await?;
    // In both lanes as many wait.
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, priority, args)
           select queue, 'verify', 'upkeep', resource_id, -10, '{"kind": "verify"}' from lastgood.runs"#,
    )
    .await?;
    let table: [(&str, (i16, i16), &[Consumer], usize); 12] = [
        ("without consumers, no limit", UPKEEP, &[], 30),
        (
            "none but another queue's",
            UPKEEP,
            &[(VECTOR, 8, "running", true)],
            30,
        ),
        (
            "two at least",
            (0, i16::MAX),
            &[(POSTGRES, 1, "running", true)],
            2,
        ),
        (
            "rounded up",
            (0, i16::MAX),
            &[(POSTGRES, 7, "running", true)],
            4,
        ),
        (
            "of all together, not of each",
            (0, i16::MAX),
            &[
                (POSTGRES, 5, "running", true),
                (BOTH, 5, "running", true),
                (POSTGRES, 5, "running", true),
            ],
            8,
        ),
        (
            "other queues' are not counted",
            (0, i16::MAX),
            &[
                (POSTGRES, 6, "running", true),
                (VECTOR, 20, "running", true),
            ],
            3,
        ),
        (
            "one that drains takes no runs",
            (0, i16::MAX),
            &[
                (POSTGRES, 6, "running", true),
                (POSTGRES, 20, "draining", true),
            ],
            3,
        ),
        (
            "nor does one that stopped, or that nobody has seen",
            (0, i16::MAX),
            &[
                (POSTGRES, 6, "running", true),
                (POSTGRES, 20, "stopped", true),
                (POSTGRES, 20, "running", false),
            ],
            3,
        ),
        (
            "upkeep has half of the slots, rounded down",
            UPKEEP,
            &[(POSTGRES, 13, "running", true)],
            3,
        ),
        (
            "and one at least",
            UPKEEP,
            &[(POSTGRES, 1, "running", true); 8],
            4,
        ),
        (
            "two at least of upkeep, too",
            UPKEEP,
            &[(POSTGRES, 2, "running", true)],
            2,
        ),
        // Counted apart in the one lane: five backups and five verifications.
        (
            "all slots where the lanes are one",
            WHOLE,
            &[(POSTGRES, 10, "running", true)],
            10,
        ),
    ];
    for (what, lane, consumers, expected) in table {
        db.execute("delete from lastgood.consumers").await?;
        for (i, (queues, slots, state, is_alive)) in consumers.iter().enumerate() {
            sqlx::query(
                "insert into lastgood.consumers (id, host, pid, version, queues, slots, capabilities, state, seen_at)
                 values ($1, 'h', 1, '0', $2, $3, '[]', $4, case when $5 then now() else now() - interval '1 minute' end)",
            )
            .bind(format!("c{i}"))
            .bind(*queues)
            .bind(slots)
            .bind(state)
            .bind(is_alive)
            .execute(db.pool())
            .await?;
        }
        let claim = Claim {
            team_slots: None,
            lane,
            ..Claim::default()
        };
        assert_eq!(claim.take(&db).await?.len(), expected, "{what}");
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
    // Neither what writes to the server nor what only reads what is stored is a dump of it.
    for kind in ["restore", "drop_replaced", "verify", "copy", "expire"] {
        for i in 1..=3 {
            ask(&db, "postgres", kind, &format!("rows-{i}")).await?;
        }
    }
    assert_eq!(in_queue("postgres").take(&db).await?.len(), 15);

    // A restore does not keep its resource from being dumped, either.
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
