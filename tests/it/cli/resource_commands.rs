//! A resource is registered, shown, paused, resumed and removed; its URL is never on a command line.

use anyhow::Result;
use lastgood::catalog::ResourceFilter;
use rstest::rstest;
use serde_json::json;

use super::process::{Said, run_on};
use crate::database::TestCatalog;

async fn add(db: &TestCatalog, id: &str, more: &[&str]) -> Result<Said> {
    let mut arguments = vec![
        "resource", "add", id, "--team", "acme", "--engine", "postgres",
    ];
    arguments.extend(more);
    run_on(db, &arguments).await
}

#[rstest]
#[case::hourly(&["--tier", "pro"], "backed up hourly")]
#[case::daily(&["--tier", "hobby"], "backed up once a day")]
#[case::never(&["--tier", "free"], "tier free is never backed up")]
#[case::vetoed(&["--tier", "pro", "--retention-days", "0"], "retention 0: it is never backed up")]
#[case::unknown(&["--tier", "enterprize"], "tier enterprize is not in the plans: NOT backed up until it is added")]
#[tokio::test(flavor = "multi_thread")]
async fn add_says_what_is_promised(#[case] tier: &[&str], #[case] promise: &str) -> Result<()> {
    let db = TestCatalog::create().await?;
    let more = [tier, &["--connection", "env:SHOP_URL"]].concat();
    let said = add(&db, "shop", &more).await?;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    assert_eq!(said.out, format!("added shop: {promise}\n"));
    let row = db.catalog.resource("shop").await?;
    assert_eq!(row.connection_ref.as_deref(), Some("env:SHOP_URL"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_or_a_reference_changes_and_the_rest_stays() -> Result<()> {
    let db = TestCatalog::create().await?;
    let more = ["--tier", "hobby", "--connection", "env:SHOP_URL"];
    assert_eq!(add(&db, "shop", &more).await?.code, 0);
    let said = run_on(&db, &["resource", "set", "shop", "--tier", "pro"]).await?;
    assert_eq!(said.out, "changed shop: backed up hourly\n", "{said:?}");
    let moved = ["resource", "set", "shop", "--connection", "file:/run/shop"];
    assert_eq!(run_on(&db, &moved).await?.code, 0);
    let row = db.catalog.resource("shop").await?;
    assert_eq!(row.tier, "pro");
    assert_eq!(row.connection_ref.as_deref(), Some("file:/run/shop"));
    let nothing = run_on(&db, &["resource", "set", "shop"]).await?;
    assert_eq!(nothing.code, 1, "{nothing:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn options_are_those_of_the_engine_and_change_one_by_one() -> Result<()> {
    let db = TestCatalog::create().await?;
    let mongodb = [
        "resource",
        "add",
        "orders",
        "--team",
        "acme",
        "--tier",
        "pro",
        "--engine",
        "mongodb",
        "--connection",
        "env:ORDERS_URL",
        "--read-preference",
        "secondary-preferred",
    ];
    let said = run_on(&db, &mongodb).await?;
    assert_eq!(said.code, 0, "{said:?}");
    let options = db.catalog.resource("orders").await?.options;
    assert_eq!(options, json!({ "read_preference": "secondary_preferred" }));

    let said = run_on(&db, &["resource", "set", "orders", "--users-and-roles"]).await?;
    assert_eq!(said.code, 0, "{said:?}");
    let options = db.catalog.resource("orders").await?.options;
    assert_eq!(
        options,
        json!({ "read_preference": "secondary_preferred", "users_and_roles": true })
    );

    let more = ["--tier", "pro", "--connection", "env:SHOP_URL"];
    let said = add(&db, "shop", &[&more[..], &["--users-and-roles"]].concat()).await?;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("for MongoDB only"), "{said:?}");
    Ok(())
}

#[rstest]
#[case::owners_of_mongodb("mongodb", &["--no-owner"], "for PostgreSQL only")]
#[case::merging_tables("postgres", &["--in-place", "--overwrite", "db", "--merge"], "for Redis only")]
#[case::merging_collections("mongodb", &["--in-place", "--overwrite", "db", "--merge"], "for Redis only")]
#[case::a_database_of_redis("redis", &["--into", "other"], "whole server")]
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_the_engine_does_not_have_is_refused_at_once(
    #[case] engine: &str,
    #[case] flags: &[&str],
    #[case] why: &str,
) -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add_on(engine, "db", "acme", "pro").await?;
    let said = run_on(&db, &[&["restore", "db"], flags].concat()).await?;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains(why), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_which_restore_points_are_of_no_one_instant() -> Result<()> {
    let db = TestCatalog::create().await?;
    for id in ["cache", "shop"] {
        db.add_on("redis", id, "acme", "pro").await?;
    }
    db.execute(
        r#"insert into lastgood.restore_points
               (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
           values
               (gen_random_uuid(), 'cache', now() - interval '1 hour', 'a', '{"consistency": "snapshot"}', 1, 1),
               (gen_random_uuid(), 'cache', now(), 'b', '{"consistency": "none"}', 1, 1),
               (gen_random_uuid(), 'shop', now() - interval '1 hour', 'c', '{"consistency": "none"}', 1, 1),
               (gen_random_uuid(), 'shop', now(), 'd', '{"consistency": "snapshot"}', 1, 1)"#,
    )
    .await?;
    let said = run_on(&db, &["status"]).await?;
    assert!(
        said.out
            .contains("NOT POINT-IN-TIME: the newest restore point of cache"),
        "{said:?}"
    );
    assert!(!said.out.contains("restore point of shop"), "{said:?}");
    let status = run_on(&db, &["--json", "status"]).await?.json()?;
    let of = |id: &str| {
        let rows = status["resources"].as_array().cloned().unwrap_or_default();
        rows.into_iter()
            .find(|row| row["id"] == id)
            .map(|row| row["consistency"].clone())
    };
    assert_eq!(
        (of("cache"), of("shop")),
        (Some(json!("none")), Some(json!("snapshot")))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_is_added_with_a_connection_or_not_at_all() -> Result<()> {
    let db = TestCatalog::create().await?;
    assert_eq!(add(&db, "shop", &["--tier", "pro"]).await?.code, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_taken_is_refused() -> Result<()> {
    let db = TestCatalog::create().await?;
    let more = ["--tier", "pro", "--connection", "env:SHOP_URL"];
    assert_eq!(add(&db, "shop", &more).await?.code, 0);
    let said = add(&db, "shop", &more).await?;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("already exists"), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_on_the_command_line_is_refused_and_not_repeated() -> Result<()> {
    let db = TestCatalog::create().await?;
    for json in [&[][..], &["--json"]] {
        let url = "postgresql://u:marker@h/db";
        let more = [&["--tier", "pro", "--connection", url], json].concat();
        let said = add(&db, "shop", &more).await?;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("--url-stdin"), "{said:?}");
        assert!(!format!("{said:?}").contains("marker"), "{said:?}");
    }
    let all = ResourceFilter {
        with_removed: true,
        limit: 10,
        ..ResourceFilter::default()
    };
    assert!(db.catalog.resources(&all).await?.is_empty());
    Ok(())
}

#[rstest]
#[case::none(&[])]
#[case::two(&["--connection", "env:SHOP_URL", "--url-stdin"])]
#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_connection_is_asked_for(#[case] connection: &[&str]) -> Result<()> {
    let db = TestCatalog::create().await?;
    let said = add(&db, "shop", &[&["--tier", "pro"], connection].concat()).await?;
    assert_eq!(said.code, 2, "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_is_listed_shown_paused_resumed_and_removed() -> Result<()> {
    let db = TestCatalog::create().await?;
    let more = ["--tier", "pro", "--connection", "env:SHOP_URL"];
    add(&db, "shop", &more).await?;

    let shown = run_on(&db, &["resource", "show", "shop"]).await?;
    assert_eq!(shown.code, 0);
    assert!(shown.out.contains("env:SHOP_URL"), "{shown:?}");
    for (verb, status) in [
        ("pause", "paused"),
        ("resume", "active"),
        ("remove", "removed"),
    ] {
        let said = run_on(&db, &["resource", verb, "shop", "--json"]).await?;
        assert_eq!(said.code, 0, "{said:?}");
        let answer = said.json()?;
        assert_eq!(
            (&answer["id"], &answer["status"]),
            (&json!("shop"), &json!(status))
        );
        assert_eq!(db.catalog.resource("shop").await?.status.as_str(), status);
        let listed = run_on(&db, &["resource", "list", "--json"]).await?.json()?;
        let expected = usize::from(status != "removed");
        assert_eq!(listed.as_array().map(Vec::len), Some(expected), "{status}");
    }
    let listed = run_on(&db, &["resource", "list", "--removed", "--json"]).await?;
    assert_eq!(listed.json()?[0]["status"], "removed");
    let resumed = run_on(&db, &["resource", "resume", "shop"]).await?;
    assert_eq!(resumed.code, 1, "removed for good");
    Ok(())
}

#[rstest]
#[case(&["resource", "show", "nobody"])]
#[case(&["resource", "pause", "nobody"])]
#[case(&["resource", "remove", "nobody"])]
#[case(&["backup", "now", "nobody"])]
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_resource_is_said_with_the_command_that_lists_them(
    #[case] arguments: &[&str],
) -> Result<()> {
    let db = TestCatalog::create().await?;
    let said = run_on(&db, arguments).await?;
    assert_eq!(said.code, 1, "{said:?}");
    let expected = "error: there is no resource \"nobody\": see `lastgood resource list`\n";
    assert_eq!(said.err, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_asked_for_twice_with_one_key_is_one_run() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    let arguments = [
        "backup",
        "now",
        "shop",
        "--idempotency-key",
        "deploy-7",
        "--json",
    ];
    let first = run_on(&db, &arguments).await?.json()?;
    let second = run_on(&db, &arguments).await?.json()?;
    assert_eq!(first["id"], second["id"]);
    let runs = run_on(&db, &["run", "list", "--json"]).await?.json()?;
    assert_eq!(runs.as_array().map(Vec::len), Some(1));
    assert_eq!(runs[0]["state"], "queued");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_what_is_exposed_unknown_and_stuck() -> Result<()> {
    let db = TestCatalog::create().await?;
    for (id, tier) in [
        ("fresh", "pro"),
        ("stale", "pro"),
        // Its name sorts between the two, and it is the least exposed, so that sorting by name cannot pass for sorting by exposure.
        ("new", "pro"),
        ("lost", "enterprize"),
        ("idle", "free"),
    ] {
        db.add(id, "acme", tier).await?;
    }
    db.execute("update lastgood.resources set newest_consistent_at = now() - interval '5 minutes' where id = 'fresh'")
        .await?;
    db.execute("update lastgood.resources set newest_consistent_at = now() - interval '3 hours', failures_in_a_row = 2 where id = 'stale'")
        .await?;
    run_on(&db, &["backup", "now", "fresh"]).await?;
    db.execute("update lastgood.runs set run_at = now() - interval '1 hour'")
        .await?;

    let status = run_on(&db, &["status", "--json"]).await?.json()?;
    assert_eq!(status["plans"], "file");
    let tier = &status["tiers"][0];
    assert_eq!(
        (
            &tier["id"],
            &tier["rpo_minutes"],
            &tier["resources"],
            &tier["broken"],
            &tier["never_backed_up"]
        ),
        (&json!("pro"), &json!(60), &json!(3), &json!(1), &json!(1))
    );
    let worst: Vec<_> = [0, 1]
        .map(|n| &status["resources"][n])
        .into_iter()
        .collect();
    assert_eq!(
        (&worst[0]["id"], &worst[0]["promise"]),
        (&json!("stale"), &json!("broken"))
    );
    assert_eq!(
        (&worst[1]["id"], &worst[1]["promise"]),
        (&json!("fresh"), &json!("kept"))
    );
    assert_eq!(worst[0]["failures_in_a_row"], 2);
    let exposure = worst[0]["exposure_seconds"].as_i64().unwrap_or_default();
    assert!((10_800..10_900).contains(&exposure), "{exposure}");
    assert_eq!(status["resources"].as_array().map(Vec::len), Some(3));
    assert_eq!(status["resources"][2]["newest_consistent_at"], json!(null));
    assert_eq!(
        status["unknown_tiers"],
        json!([{ "id": "enterprize", "resources": 1 }])
    );
    assert_eq!(status["stuck"][0]["resource"], "fresh");
    assert_eq!(status["queue"][0]["runs"], 1);
    assert_eq!(status["consumers"], json!([]));

    let text = run_on(&db, &["status"]).await?.out;
    for part in [
        "BROKEN",
        "UNKNOWN TIER \"enterprize\"",
        "NO LIVE CONSUMER",
        "STUCK: backup",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tool_said_cannot_steer_the_terminal() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    let run = run_on(&db, &["backup", "now", "shop", "--json"])
        .await?
        .json()?;
    db.execute(
        "update lastgood.runs set state = 'failed', finished_at = now(), error_kind = 'dump', error = E'bad \\x1b[2J\\x07 news'",
    )
    .await?;
    let id = run["id"].as_str().unwrap_or_default();
    for arguments in [&["run", "show", id][..], &["run", "list"]] {
        let said = run_on(&db, arguments).await?;
        assert_eq!(said.code, 0);
        assert!(!said.out.contains(['\u{1b}', '\u{7}']), "{said:?}");
    }
    Ok(())
}
