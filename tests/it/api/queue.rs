//! The queue is controlled over HTTP as from the command line, and each action is recorded under the token's name.

use anyhow::{Context as _, Result, ensure};
use axum::http::Method;
use serde_json::json;

use super::lab::Api;

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_made_once_listed_and_ended() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    let body = json!({ "engine": "redis", "reason": "the host moves" });
    let unexplained = Some(json!({ "engine": "redis" }));
    api.ask(Method::POST, &token, "/queue/pauses", unexplained)
        .await?
        .with(422)?;
    let pause = api
        .ask(Method::POST, &token, "/queue/pauses", Some(body.clone()))
        .await?
        .with(201)?;
    ensure!(
        pause["by"]
            .as_str()
            .is_some_and(|by| by.starts_with("token:")),
        "{pause}"
    );
    api.ask(Method::POST, &token, "/queue/pauses", Some(body))
        .await?
        .with(200)?;
    assert_eq!(
        api.get(&token, "/queue/pauses").await?.with(200)?,
        json!([pause])
    );
    api.ask(Method::DELETE, &token, "/queue/pauses", None)
        .await?
        .with(404)?;
    api.ask(Method::DELETE, &token, "/queue/pauses?engine=redis", None)
        .await?
        .with(200)?;
    assert_eq!(
        api.get(&token, "/queue/pauses").await?.with(200)?,
        json!([])
    );
    let drained = api
        .ask(Method::POST, &token, "/queue/drain", None)
        .await?
        .with(200)?;
    assert_eq!(
        drained,
        json!({ "is_drained": true, "is_paused": true, "running": [] })
    );
    assert_eq!(api.db.catalog.pauses().await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_cancelled_and_tried_again() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    api.db.add("shop", "acme", "pro").await?;
    let run = api
        .ask(Method::POST, &token, "/resources/shop/backups", None)
        .await?
        .with(202)?;
    let path = format!("/runs/{}", run["id"].as_str().context("no id")?);
    let reason = Some(json!({ "reason": "the wrong one" }));
    api.ask(Method::POST, &token, &format!("{path}/retry"), None)
        .await?
        .with(409)?;
    let cancelled = api
        .ask(Method::POST, &token, &format!("{path}/cancel"), reason)
        .await?
        .with(200)?;
    assert_eq!(cancelled["state"], "cancelled");
    api.ask(Method::POST, &token, &format!("{path}/cancel"), None)
        .await?
        .with(409)?;
    let again = api
        .ask(Method::POST, &token, &format!("{path}/retry"), None)
        .await?
        .with(200)?;
    assert_eq!(again["state"], "queued");
    let acts = api
        .db
        .catalog
        .audited(&lastgood::catalog::AuditFilter::newest(10))
        .await?;
    let cancel = acts
        .iter()
        .find(|act| act.action == "cancel")
        .context("not recorded")?;
    ensure!(
        cancel.by.starts_with("token:") && cancel.detail["reason"] == "the wrong one",
        "{cancel:?}"
    );
    Ok(())
}
