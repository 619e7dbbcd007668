//! A resource is registered, changed and removed over HTTP; its URL goes in and never comes out.

use anyhow::{Context as _, Result, ensure};
use axum::http::Method;
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::lab::Api;
use crate::eventually::{SOON, eventually};

const SHOP: &str = "/resources/shop";

#[tokio::test(flavor = "multi_thread")]
async fn put_registers_then_brings_to_what_is_sent() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    let url = "postgresql://u:hunter2@h/shop";
    let mut body = json!({ "team": "acme", "tier": "pro", "engine": "postgres", "url": url, "retention_days": 3 });
    let made = api
        .ask(Method::PUT, &token, SHOP, Some(body.clone()))
        .await?;
    ensure!(
        made.with(201)?["connection"] == "sealed" && !made.body.contains("hunter2"),
        "{made:?}"
    );
    assert_eq!(made.json()?["promise"], "backed up hourly");
    let sealed: Vec<u8> = sqlx::query_scalar("select connection_sealed from lastgood.resources")
        .fetch_one(api.db.pool())
        .await?;
    ensure!(!String::from_utf8_lossy(&sealed).contains("hunter2"));

    // The URL never comes out, so it need not be sent again, and is kept.
    body = json!({ "team": "acme", "tier": "hobby", "engine": "postgres" });
    let changed = api
        .ask(Method::PUT, &token, SHOP, Some(body.clone()))
        .await?
        .with(200)?;
    assert_eq!(
        (
            &changed["tier"],
            &changed["retention_days"],
            &changed["connection"]
        ),
        (&json!("hobby"), &json!(null), &json!("sealed"))
    );
    for (field, value) in [("team", "other"), ("engine", "redis")] {
        let mut another = body.clone();
        another[field] = json!(value);
        api.ask(Method::PUT, &token, SHOP, Some(another))
            .await?
            .with(409)?;
    }
    api.ask(Method::PUT, &token, "/resources/new", Some(body.clone()))
        .await?
        .with(422)?;
    api.ask(Method::PUT, &token, "/resources/..no", Some(body))
        .await?
        .with(422)?;
    let acts = api
        .db
        .catalog
        .audited(&lastgood::catalog::AuditFilter::newest(10))
        .await?;
    let told: Vec<_> = acts
        .iter()
        .filter(|act| act.resource.is_some())
        .map(|act| act.action.as_str())
        .collect();
    assert_eq!(told, ["change", "register"]);
    ensure!(!format!("{acts:?}").contains("hunter2"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn patch_changes_what_is_said_and_delete_is_for_good() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    api.db.add("shop", "acme", "pro").await?;
    let patch = async |body| api.ask(Method::PATCH, &token, SHOP, Some(body)).await;
    assert_eq!(
        patch(json!({ "retention_days": 0 })).await?.with(200)?["promise"],
        "retention 0: it is never backed up"
    );
    assert_eq!(
        patch(json!({ "tier": "growth" })).await?.with(200)?["retention_days"],
        0
    );
    assert_eq!(
        patch(json!({ "retention_days": null })).await?.with(200)?["promise"],
        "backed up hourly"
    );
    assert_eq!(
        patch(json!({ "status": "paused" })).await?.with(200)?["status"],
        "paused"
    );
    assert_eq!(
        patch(json!({ "status": "active", "connection": "file:/run/shop" }))
            .await?
            .with(200)?["connection"],
        "file:/run/shop"
    );
    for refused in [
        json!({ "status": "removed" }),
        json!({ "read_preference": "primary" }),
        json!({ "connection": "env:A", "url": "postgresql://h/d" }),
        json!({ "connection": "file:/a\u{0}b" }),
        json!({ "team": "other" }),
    ] {
        patch(refused).await?.with(422)?;
    }
    for _ in 0..2 {
        api.ask(Method::DELETE, &token, SHOP, None)
            .await?
            .with(200)?;
    }
    patch(json!({ "tier": "pro" })).await?.with(409)?;
    api.ask(Method::POST, &token, "/resources/shop/backups", None)
        .await?
        .with(409)?;
    assert_eq!(api.get(&token, "/resources").await?.with(200)?, json!([]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_on_after_its_last_id() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    for id in ["a", "b", "c"] {
        api.db.add(id, "acme", "pro").await?;
    }
    let ids = async |query: &str| {
        let page = api
            .get(&token, &format!("/resources?{query}"))
            .await?
            .with(200)?;
        let ids = page
            .as_array()
            .into_iter()
            .flatten()
            .map(|row| row["id"].as_str().unwrap_or_default().to_owned());
        Ok::<_, anyhow::Error>(ids.collect::<Vec<_>>())
    };
    assert_eq!(ids("limit=2").await?, ["a", "b"]);
    assert_eq!(ids("limit=2&after=b").await?, ["c"]);
    assert_eq!(ids("team=nobody").await?, [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn put_of_what_is_so_already_changes_nothing_and_leaves_a_back_off() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    let by_url = json!({ "team": "acme", "tier": "pro", "engine": "mongodb", "url": "mongodb://u:p@h/shop",
        "retention_days": 3, "read_preference": "primary" });
    let put = async |body: Value| {
        api.ask(Method::PUT, &token, SHOP, Some(body))
            .await?
            .with(200)
    };
    api.ask(Method::PUT, &token, SHOP, Some(by_url.clone()))
        .await?
        .with(201)?;
    let fail = "update lastgood.resources set failures_in_a_row = 7, next_due_at = date_trunc('minute', now()) + interval '40 minutes'";
    let changes = "select count(*) from lastgood.audit where action = 'change'";
    let mut without_url = by_url.clone();
    without_url
        .as_object_mut()
        .context("no object")?
        .remove("url");
    api.db.execute(fail).await?;
    let failing = api.get(&token, SHOP).await?.with(200)?;
    for same in [&by_url, &without_url] {
        assert_eq!(put(same.clone()).await?, failing);
    }
    assert_eq!(api.db.count(changes).await?, 0);
    let with = |field: &str, value: Value| {
        let mut body = by_url.clone();
        body[field] = value;
        body
    };
    // The change concerns neither the connection nor what is read, so the next attempt would fail like the last one.
    let kept = put(with("retention_days", json!(4))).await?;
    assert_eq!(
        (&kept["failures_in_a_row"], &kept["retention_days"]),
        (&json!(7), &json!(4))
    );
    assert_eq!(api.db.count(changes).await?, 1);
    for (n, (field, value)) in [
        ("tier", json!("hobby")),
        ("url", json!("mongodb://u:other@h/shop")),
        ("read_preference", json!("secondary_preferred")),
    ]
    .into_iter()
    .enumerate()
    {
        put(by_url.clone()).await?;
        api.db.execute(fail).await?;
        let before = api.db.count(changes).await?;
        let after = put(with(field, value)).await?;
        assert_eq!(after["failures_in_a_row"], 0, "{n} {field}");
        assert_eq!(api.db.count(changes).await?, before + 1, "{field}");
    }
    let by_name =
        json!({ "team": "acme", "tier": "pro", "engine": "mongodb", "connection": "env:SHOP" });
    put(by_name.clone()).await?;
    let before = api.db.count(changes).await?;
    put(by_name).await?;
    assert_eq!(api.db.count(changes).await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_put_sent_at_once_registers_once_and_refuses_none() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    let body = json!({ "team": "acme", "tier": "pro", "engine": "postgres", "url": "postgresql://u:p@h/shop" });
    // Every request looks for the resource before any has registered it.
    let mut held = api.db.pool().begin().await?;
    sqlx::query("lock table lastgood.resources in exclusive mode")
        .execute(&mut *held)
        .await?;
    let release = async {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        eventually(SOON, "all wait", async || {
            Ok(api.db.count(waiting).await? == 4)
        })
        .await?;
        Ok(held.rollback().await?)
    };
    let puts = try_join_all((0..4).map(|_| api.ask(Method::PUT, &token, SHOP, Some(body.clone()))));
    let (answers, ()) = tokio::try_join!(puts, release)?;
    let mut statuses: Vec<_> = answers
        .iter()
        .map(|answer| answer.status.as_u16())
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 201], "{answers:?}");
    let other = json!({ "team": "other", "tier": "pro", "engine": "postgres", "url": "postgresql://u:p@h/shop" });
    api.ask(Method::PUT, &token, SHOP, Some(other))
        .await?
        .with(409)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_negative_retention_is_refused_and_0_vetoes_backups() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    api.db.add("shop", "acme", "pro").await?;
    let put = json!({ "team": "acme", "tier": "pro", "engine": "postgres", "connection": "env:SOME_URL", "retention_days": -1 });
    for (method, body) in [
        (Method::PATCH, json!({ "retention_days": -5 })),
        (Method::PUT, put),
    ] {
        let refused = api.ask(method, &token, SHOP, Some(body)).await?;
        let refused = refused.with(422)?["detail"].to_string();
        ensure!(refused.contains("must not be negative"), "{refused}");
    }
    let veto = Some(json!({ "retention_days": 0 }));
    let patched = api.ask(Method::PATCH, &token, SHOP, veto).await?;
    assert_eq!(
        patched.with(200)?["promise"],
        "retention 0: it is never backed up"
    );
    Ok(())
}

/// Every new resource is due at once, so a team that registers its own is limited in number and cannot hog the queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_team_registers_as_many_resources_as_the_team_may_have() -> Result<()> {
    let api = Api::create().await?;
    let order = lastgood::catalog::Order::new("test", None);
    api.db
        .catalog
        .set_adhoc_limits(None, None, Some(3), &order)
        .await?;
    let bound = api
        .token(&[lastgood::token::Scope::Admin], Some("acme"))
        .await?;
    let body = json!({ "team": "acme", "tier": "pro", "engine": "postgres", "url": "postgresql://u:p@h/shop" });
    let put = async |token: &str, id: usize| {
        let path = format!("/resources/shop-{id}");
        api.ask(Method::PUT, token, &path, Some(body.clone())).await
    };
    // Sent at the same time, they take turns.
    let answers = try_join_all((0..10).map(|id| put(&bound, id))).await?;
    let made = answers.iter().filter(|it| it.status == 201).count();
    ensure!(made == 3, "{answers:?}");
    let refused = answers.iter().find(|it| it.status != 201).context("none")?;
    let refused = refused.with(429)?;
    ensure!(
        refused["detail"]
            .as_str()
            .is_some_and(|it| it.contains("3 resources")),
        "{refused}"
    );
    // An existing resource can be sent again, operators are not limited, and removing a resource makes room.
    let there = answers
        .iter()
        .position(|it| it.status == 201)
        .context("none")?;
    put(&bound, there).await?.with(200)?;
    let admin = api.admin().await?;
    put(&admin, 20).await?.with(201)?;
    for id in [there, 20] {
        let path = format!("/resources/shop-{id}");
        api.ask(Method::DELETE, &admin, &path, None).await?;
    }
    put(&bound, 30).await?.with(201)?;
    put(&bound, 31).await?.with(429)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_url_is_refused_is_said_for_every_engine_without_showing_it() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    for (engine, url, why) in [
        (
            "postgres",
            "postgresql://u:hunter2@h/shop?sslcert=/x",
            "sslcert",
        ),
        ("postgres", "postgresql://u:hunter2@h", "database"),
        ("mongodb", "postgresql://u:hunter2@h/shop", "mongodb"),
        ("redis", "http://u:hunter2@h", "redis"),
    ] {
        let body = json!({ "team": "acme", "tier": "pro", "engine": engine, "url": url });
        let refused = api.ask(Method::PUT, &token, SHOP, Some(body)).await?;
        let detail = refused.with(422)?["detail"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        ensure!(
            detail.contains(why) && !detail.contains("hunter2"),
            "{engine}: {detail}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sealed_row_that_was_altered_stops_no_registration_and_a_wrong_key_stops_all()
-> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    let url = "postgresql://u:p@h/shop";
    let put = async |id: &str| {
        let body = json!({ "team": "acme", "tier": "pro", "engine": "postgres", "url": url });
        api.ask(Method::PUT, &token, &format!("/resources/{id}"), Some(body))
            .await
    };
    for id in ["a", "b"] {
        put(id).await?.with(201)?;
    }
    api.db.execute("update lastgood.resources set connection_sealed = set_byte(connection_sealed, 40, 255 - get_byte(connection_sealed, 40)) where id = 'a'").await?;
    put("c").await?.with(201)?;
    // The altered row gets a new URL.
    put("a").await?.with(200)?;
    // As if another key had sealed the catalog.
    api.db
        .execute("update lastgood.master_keys set proof = '\\x01020304'")
        .await?;
    put("d").await?.with(503)?;
    Ok(())
}
