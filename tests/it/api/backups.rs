//! A request for an ad-hoc backup is idempotent under its key, and limited in number.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use axum::http::Method;
use futures::future::try_join_all;
use lastgood::{catalog::Order, token::Scope};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};

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
        mine.len() == 1 && mine.iter().all(|row| row.by.starts_with("token:")),
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
    for body in [json!({ "reason": "x" }), json!([]), json!("x"), json!(7)] {
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
        .set_adhoc_limits(Some(3), Some(4), None, &order)
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

    // What runs counts as well.
    api.db
        .execute(
            "update lastgood.runs set state = 'running', attempt = 1, epoch = 1, lease_by = 'w', lease_until = now() + interval '1 hour'",
        )
        .await?;
    api.ask(Method::POST, &token, BACKUPS, None)
        .await?
        .with(429)?;
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

    // An hour later the limit has room again.
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
        .set_adhoc_limits(Some(1), None, None, &Order::new("test", None))
        .await?;
    // The first request has its turn and has not committed, so no one can see yet that it counts.
    let mut first = api.db.pool().begin().await?;
    sqlx::raw_sql(
        "insert into lastgood.adhoc_turns values ('acme');
         select from lastgood.adhoc_turns where team = 'acme' for update;
         select lastgood.ask_for_backup('shop', null)",
    )
    .execute(&mut *first)
    .await?;
    let commit = async {
        eventually(SOON, "the second waits for its turn", async || {
            Ok(waiting(&mut *api.db.pool().acquire().await?).await? == 1)
        })
        .await?;
        Ok(first.commit().await?)
    };
    let second = api.ask(Method::POST, &token, BACKUPS, None);
    let (second, ()) = tokio::try_join!(second, commit)?;
    second.with(429)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_anybody_can_take_is_no_turn() -> Result<()> {
    let (api, token) = shop().await?;
    let mut anybody = api.db.pool().begin().await?;
    // The advisory locks that a request might take have these keys; here they must make no difference.
    sqlx::query(
        "select pg_advisory_xact_lock(hashtext('lastgood.ask_for_backup'), hashtext('acme'))",
    )
    .execute(&mut *anybody)
    .await?;
    api.ask(Method::POST, &token, BACKUPS, None)
        .await?
        .with(202)?;
    Ok(())
}

/// Returns how many sessions of this catalog wait for a lock.
async fn waiting(connection: &mut PgConnection) -> Result<i64> {
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    Ok(sqlx::query_scalar(waiting).fetch_one(connection).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_of_a_service_holds_up_its_own_key_alone_and_not_for_long() -> Result<()>
{
    let (api, token) = shop().await?;
    api.restore_point("shop", 5).await?;
    api.db.add("theirs", "theirs", "pro").await?;
    let stranger = api.token(&[Scope::Read], Some("theirs")).await?;
    let admin = api.admin().await?;
    let options: PgConnectOptions = api.db.url().expose_secret().parse()?;
    let mut service = PgConnection::connect_with(&options).await?;
    let mut monitor = PgConnection::connect_with(&options).await?;
    sqlx::raw_sql("update lastgood.adhoc_limits set per_resource = 1000")
        .execute(&mut service)
        .await?;
    sqlx::raw_sql("begin; select lastgood.enqueue_backup('shop', 'migration-7')")
        .execute(&mut service)
        .await?;

    let has_ended = AtomicBool::new(false);
    let same_key = async {
        let backup = api.post_once(&token, BACKUPS, "migration-7", None).await;
        has_ended.store(true, Ordering::SeqCst);
        backup
    };
    let same_key_restore = api.post_once(&admin, "/resources/shop/restores", "migration-7", None);
    // More requests than connections, and no limit that the first ones could reach before the others come.
    let others = try_join_all((0..16).map(|_| api.ask(Method::POST, &token, BACKUPS, None)));
    let meanwhile = async {
        eventually(SOON, "they wait", async || {
            Ok(waiting(&mut monitor).await? >= 3)
        })
        .await?;
        api.get(&stranger, "/resources/theirs").await?.with(200)?;
        ensure!(
            !has_ended.load(Ordering::SeqCst),
            "the stranger waited for somebody else's key"
        );
        Ok(())
    };
    let (backup, restore, others, ()) =
        tokio::try_join!(same_key, same_key_restore, others, meanwhile)?;
    for answer in [backup, restore] {
        let problem = answer.with(503)?;
        assert_eq!(problem["type"], "urn:lastgood:problem:unavailable");
        ensure!(
            answer.headers.contains_key("retry-after")
                && answer.body.contains("another transaction"),
            "{answer:?}"
        );
    }
    ensure!(
        others
            .iter()
            .all(|answer| matches!(answer.status.as_u16(), 202 | 429 | 503)),
        "{others:?}"
    );
    sqlx::raw_sql("commit").execute(&mut service).await?;
    api.post_once(&token, BACKUPS, "migration-7", None)
        .await?
        .with(200)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_before_is_under_no_limit() -> Result<()> {
    let (api, token) = shop().await?;
    let run: Value = api.post_once(&token, BACKUPS, "k", None).await?.with(202)?;
    api.db
        .catalog
        .set_adhoc_limits(Some(0), None, None, &Order::new("test", None))
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
