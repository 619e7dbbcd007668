//! An ad-hoc backup is asked for once, however often the request is sent, and within limits.

use anyhow::{Context as _, Result, ensure};
use axum::http::Method;
use futures::future::try_join_all;
use lastgood::{catalog::Order, token::Scope};
use serde_json::{Value, json};

use super::lab::Api;
use crate::eventually::{SOON, eventually};

const BACKUPS: &str = "/resources/shop/backups";

async fn shop() -> Result<(Api, String)> {
    let api = Api::create().await?;
    api.db.add("shop", "acme", "pro").await?;
    let token = api.token(&[Scope::Enqueue, Scope::Read], None).await?;
    Ok((api, token))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_again_is_answered_with_the_first_ones_run() -> Result<()> {
    let (api, token) = shop().await?;
    let first = api
        .post_once(&token, BACKUPS, "before-migration-7", None)
        .await?;
    let run = first.with(202)?;
    let location = first
        .headers
        .get("location")
        .context("no location")?
        .to_str()?;
    ensure!(location == format!("/api/v1/runs/{}", run["id"].as_str().context("no id")?));
    let again = api
        .post_once(&token, BACKUPS, "before-migration-7", Some(json!({})))
        .await?;
    assert_eq!(again.with(200)?["id"], run["id"]);
    assert_eq!(again.headers.get("location"), first.headers.get("location"));
    let shown = api
        .get(
            &token,
            location.strip_prefix("/api/v1").context("elsewhere")?,
        )
        .await?
        .with(200)?;
    assert_eq!(
        (&shown["kind"], &shown["trigger"], &shown["state"]),
        (&json!("backup"), &json!("adhoc"), &json!("queued"))
    );
    let audited = api
        .db
        .catalog
        .audited(&lastgood::catalog::AuditFilter::newest(10))
        .await?;
    let mine: Vec<_> = audited
        .iter()
        .filter(|row| row.action == "backup")
        .collect();
    ensure!(
        mine.len() == 1 && mine.iter().all(|row| row.actor.starts_with("token:")),
        "{audited:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_under_one_key_make_one_run() -> Result<()> {
    let (api, token) = shop().await?;
    let all = (0..10).map(|_| api.post_once(&token, BACKUPS, "once", None));
    let answers = try_join_all(all).await?;
    let fresh = answers.iter().filter(|answer| answer.status == 202).count();
    let replayed = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((fresh, replayed), (1, 9), "{answers:?}");
    assert_eq!(api.db.count("select count(*) from lastgood.runs").await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_restore_is_no_key_for_a_backup() -> Result<()> {
    let (api, _) = shop().await?;
    api.restore_point("shop", 5).await?;
    let admin = api.admin().await?;
    api.post_once(&admin, "/resources/shop/restores", "key", None)
        .await?
        .with(202)?;
    api.post_once(&admin, BACKUPS, "key", None)
        .await?
        .with(409)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_or_key_that_is_none_is_refused_and_nothing_is_queued() -> Result<()> {
    let (api, token) = shop().await?;
    for body in [json!({ "because": "x" }), json!([]), json!("x"), json!(7)] {
        api.ask(Method::POST, &token, BACKUPS, Some(body))
            .await?
            .with(422)?;
    }
    api.post_once(&token, BACKUPS, &"k".repeat(256), None)
        .await?
        .with(400)?;
    assert_eq!(api.db.count("select count(*) from lastgood.runs").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_and_a_team_have_limits_that_end_after_an_hour() -> Result<()> {
    let (api, token) = shop().await?;
    api.db.add("other", "acme", "pro").await?;
    api.db.add("stranger", "elsewhere", "pro").await?;
    let order = Order::new("test", None);
    api.db
        .catalog
        .set_adhoc_limits(Some(3), Some(4), &order)
        .await?;
    let answers =
        try_join_all((0..8).map(|_| api.ask(Method::POST, &token, BACKUPS, None))).await?;
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 202).count(),
        3,
        "{answers:?}"
    );
    let limited = answers
        .iter()
        .find(|answer| answer.status == 429)
        .context("none is limited")?;
    let seconds: u32 = limited
        .headers
        .get("retry-after")
        .context("no retry-after")?
        .to_str()?
        .parse()?;
    ensure!((3500..=3600).contains(&seconds), "{limited:?}");
    assert_eq!(limited.json()?["retry_after_seconds"], json!(seconds));

    let other = "/resources/other/backups";
    api.ask(Method::POST, &token, other, None)
        .await?
        .with(202)?;
    let of_team = api.ask(Method::POST, &token, other, None).await?;
    ensure!(
        of_team.with(429)?["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("team \"acme\"")),
        "{of_team:?}"
    );
    api.ask(Method::POST, &token, "/resources/stranger/backups", None)
        .await?
        .with(202)?;

    // An hour later there is room again.
    api.db
        .execute("update lastgood.runs set created_at = created_at - interval '61 minutes'")
        .await?;
    api.ask(Method::POST, &token, other, None)
        .await?
        .with(202)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_team_are_counted_in_turn() -> Result<()> {
    let (api, token) = shop().await?;
    api.db
        .catalog
        .set_adhoc_limits(Some(1), None, &Order::new("test", None))
        .await?;
    let mut turn = api.db.pool().begin().await?;
    sqlx::query(
        "select pg_advisory_xact_lock(hashtext('lastgood.ask_for_backup'), hashtext('acme'))",
    )
    .execute(&mut *turn)
    .await?;
    let both_wait =
        "select count(*) from pg_locks join pg_database as db on db.oid = pg_locks.database
        where db.datname = current_database() and locktype = 'advisory' and not granted";
    let release = async {
        eventually(SOON, "both wait for their turn", async || {
            Ok(api.db.count(both_wait).await? == 2)
        })
        .await?;
        Ok(turn.rollback().await?)
    };
    let asks = try_join_all((0..2).map(|_| api.ask(Method::POST, &token, BACKUPS, None)));
    let (answers, ()) = tokio::try_join!(asks, release)?;
    let mut statuses: Vec<_> = answers
        .iter()
        .map(|answer| answer.status.as_u16())
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 429], "{answers:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_before_is_under_no_limit() -> Result<()> {
    let (api, token) = shop().await?;
    let run: Value = api.post_once(&token, BACKUPS, "k", None).await?.with(202)?;
    api.db
        .catalog
        .set_adhoc_limits(Some(0), None, &Order::new("test", None))
        .await?;
    assert_eq!(
        api.post_once(&token, BACKUPS, "k", None).await?.with(200)?["id"],
        run["id"]
    );
    api.post_once(&token, BACKUPS, "other", None)
        .await?
        .with(429)?;
    Ok(())
}
