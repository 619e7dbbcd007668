//! A resource is registered, changed and removed over HTTP; its URL goes in and never comes out.

use anyhow::{Result, ensure};
use axum::http::Method;
use serde_json::json;

use super::lab::Api;

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

    // What never comes out need not be sent again, and stays.
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
        .filter(|act| act.resource_id.is_some())
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
            .with(204)?;
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
