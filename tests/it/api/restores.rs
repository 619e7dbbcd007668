//! A restore uses the point that was requested, and overwrites only a resource that was named twice.

use anyhow::{Context as _, Result, ensure};
use axum::http::Method;
use lastgood::{
    catalog::{CatalogError, Order},
    request::{RequestError, RestoreRequest, restore},
};
use serde_json::{Value, json};

use super::lab::Api;
use crate::eventually::{SOON, eventually};

const RESTORES: &str = "/resources/shop/restores";

async fn shop() -> Result<(Api, String)> {
    let api = Api::create().await?;
    api.db.add("shop", "acme", "pro").await?;
    let token = api.admin().await?;
    Ok((api, token))
}

/// Returns the target of the run in an answer.
async fn target(api: &Api, answer: &Value) -> Result<Value> {
    let run = answer["id"].as_str().context("no run")?;
    let args: Value = sqlx::query_scalar("select args from lastgood.runs where id = $1::uuid")
        .bind(run)
        .fetch_one(api.db.pool())
        .await?;
    api.db.execute("delete from lastgood.runs").await?;
    Ok(args["target"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_point_an_instant_and_a_named_one_are_found() -> Result<()> {
    let (api, token) = shop().await?;
    let ask = async |body| api.ask(Method::POST, &token, RESTORES, body).await;
    ask(None).await?.with(409)?;
    let old = api.restore_point("shop", 120).await?;
    let new = api.restore_point("shop", 10).await?;
    api.db.add("other", "acme", "pro").await?;
    let others = api.restore_point("other", 5).await?;
    let hour_ago = chrono::Utc::now() - chrono::TimeDelta::hours(1);
    for (body, point) in [
        (None, new),
        (Some(json!({ "at": hour_ago })), old),
        (Some(json!({ "point": old })), old),
    ] {
        let answer = ask(body).await?.with(202)?;
        assert_eq!(answer["point"], json!(point));
        assert_eq!(target(&api, &answer).await?, json!({ "to": "swap" }));
    }
    // Another resource's point and a missing one must get the same answer.
    let absent = uuid::Uuid::new_v4();
    let mut told = Vec::new();
    for point in [others, absent] {
        let problem = ask(Some(json!({ "point": point }))).await?.with(404)?;
        let detail = problem["detail"].as_str().context("no detail")?;
        told.push(detail.replace(&point.to_string(), "ID"));
    }
    assert_eq!(told[0], told[1]);
    ask(Some(json!({ "at": "2000-01-01T00:00:00Z" })))
        .await?
        .with(409)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn over_what_is_there_only_with_the_id_repeated() -> Result<()> {
    let (api, token) = shop().await?;
    api.restore_point("shop", 10).await?;
    let ask = async |body| api.ask(Method::POST, &token, RESTORES, Some(body)).await;
    for refused in [
        json!({ "overwrite": "shopp" }),
        json!({ "overwrite": "" }),
        json!({ "overwrite": true }),
        json!({ "overwrite": "shop", "into": "elsewhere" }),
        json!({ "overwrite": "shop", "merge": true }),
        json!({ "merge": true }),
        json!({ "even_quarantined": true }),
        json!({ "into": "postgresql://u:p@h/d" }),
        json!({ "into": "a\u{0}b" }),
        json!({ "in_place": true }),
    ] {
        ask(refused).await?.with(422)?;
    }
    assert_eq!(api.db.count("select count(*) from lastgood.runs").await?, 0);
    let answer = ask(json!({ "overwrite": "shop" })).await?.with(202)?;
    assert_eq!(
        target(&api, &answer).await?,
        json!({ "to": "in_place", "overwrite": "shop" })
    );
    let answer = ask(json!({ "into": "empty" })).await?.with(202)?;
    assert_eq!(
        target(&api, &answer).await?,
        json!({ "to": "database", "name": "empty" })
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_restore_is_the_first_one_and_another_body_a_conflict() -> Result<()> {
    let (api, token) = shop().await?;
    let first_point = api.restore_point("shop", 10).await?;
    let first = api
        .post_once(&token, RESTORES, "k", None)
        .await?
        .with(202)?;
    // By now the newest point is another one.
    api.restore_point("shop", 1).await?;
    let again = api
        .post_once(&token, RESTORES, "k", Some(json!({})))
        .await?
        .with(200)?;
    assert_eq!(
        (&again["id"], &again["point"]),
        (&first["id"], &json!(first_point))
    );
    for other in [
        json!({ "into": "elsewhere" }),
        json!({ "point": first_point }),
        json!({ "at": "2026-11-23T04:00:00Z" }),
        json!({ "no_owner": true }),
    ] {
        api.post_once(&token, RESTORES, "k", Some(other))
            .await?
            .with(409)?;
    }
    api.ask(Method::POST, &token, RESTORES, None)
        .await?
        .with(409)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_point_is_restored_from_only_by_name_and_word() -> Result<()> {
    let (api, token) = shop().await?;
    let point = api.restore_point("shop", 10).await?;
    api.db.execute("update lastgood.restore_points set quarantined_at = now(), quarantined_because = 'a flipped bit'").await?;
    let ask = async |body| api.ask(Method::POST, &token, RESTORES, Some(body)).await;
    ask(json!({})).await?.with(409)?;
    ask(json!({ "point": point })).await?.with(409)?;
    ask(json!({ "point": point, "even_quarantined": true }))
        .await?
        .with(202)?;
    let points = api
        .get(&token, "/resources/shop/restore-points")
        .await?
        .with(200)?;
    assert_eq!(
        (&points[0]["id"], &points[0]["is_trusted"]),
        (&json!(point), &json!(false))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_point_is_restored_from_only_by_name_and_word_until_it_is_confirmed() -> Result<()>
{
    let (api, token) = shop().await?;
    let good = api.restore_point("shop", 60).await?;
    let suspect = api.restore_point("shop", 10).await?;
    sqlx::query(
        "update lastgood.restore_points set suspected_at = now(), suspected_of = array['shrunk'], suspected_because = 'a tenth is left'
         where id = $1",
    )
    .bind(suspect)
    .execute(api.db.pool())
    .await?;
    let ask = async |body| api.ask(Method::POST, &token, RESTORES, Some(body)).await;
    let again = async || {
        api.db
            .execute("delete from lastgood.runs where kind = 'restore'")
            .await
    };
    let default = ask(json!({})).await?.with(202)?;
    assert_eq!(default["point"], json!(good));
    again().await?;
    let refused = ask(json!({ "point": suspect })).await?.with(409)?;
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("a tenth is left") && detail.contains("/confirm"),
        "{detail}"
    );
    ask(json!({ "even_suspect": true })).await?.with(422)?;
    ask(json!({ "point": suspect, "even_suspect": true }))
        .await?
        .with(202)?;
    again().await?;
    let points = api
        .get(&token, "/resources/shop/restore-points")
        .await?
        .with(200)?;
    assert_eq!(
        (&points[0]["is_trusted"], &points[0]["suspected_of"]),
        (&json!(false), &json!(["shrunk"]))
    );
    let path = format!("/restore-points/{suspect}/confirm");
    let admin = api.admin().await?;
    let confirm = async |body| api.ask(Method::POST, &admin, &path, Some(body)).await;
    confirm(json!({})).await?.with(422)?;
    let confirmed = confirm(json!({ "reason": "they purged it" }))
        .await?
        .with(200)?;
    assert_eq!(confirmed["is_trusted"], json!(true));
    confirm(json!({ "reason": "twice" })).await?.with(409)?;
    let default = ask(json!({})).await?.with(202)?;
    assert_eq!(default["point"], json!(suspect));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_restore_is_answered_whatever_became_of_its_point() -> Result<()> {
    let (api, token) = shop().await?;
    let point = api.restore_point("shop", 10).await?;
    let body = json!({ "point": point });
    let ask = async || {
        api.post_once(&token, RESTORES, "k", Some(body.clone()))
            .await
    };
    let first = ask().await?.with(202)?;
    for (became, consistent_at) in [
        (
            "update lastgood.restore_points set quarantined_at = now(), quarantined_because = 'a flipped bit'",
            &first["consistent_at"],
        ),
        (
            "update lastgood.restore_points set expired_at = now(), expired_because = 'older'",
            &first["consistent_at"],
        ),
        ("delete from lastgood.restore_points", &Value::Null),
    ] {
        api.db.execute(became).await?;
        let again = ask().await?.with(200)?;
        assert_eq!(
            (&again["id"], &again["point"], &again["consistent_at"]),
            (&first["id"], &json!(point), consistent_at),
            "{became}"
        );
    }
    // If what the first request said is not on record, another point still makes another request.
    api.db
        .execute("update lastgood.runs set asked = null")
        .await?;
    let another = json!({ "point": uuid::Uuid::new_v4() });
    api.post_once(&token, RESTORES, "k", Some(another))
        .await?
        .with(409)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_at_once_the_second_tells_the_point_of_the_first() -> Result<()> {
    let (api, token) = shop().await?;
    let old = api.restore_point("shop", 10).await?;
    let first = api
        .post_once(&token, RESTORES, "k", None)
        .await?
        .with(202)?;
    // The first request, not yet committed; by now the newest point is another one.
    api.db
        .execute("create table lastgood.first as select * from lastgood.runs")
        .await?;
    api.db.execute("delete from lastgood.runs").await?;
    api.restore_point("shop", 1).await?;
    let mut transaction = api.db.pool().begin().await?;
    sqlx::query("insert into lastgood.runs select * from lastgood.first")
        .execute(&mut *transaction)
        .await?;
    let commit = async {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        eventually(SOON, "the second waits for the first", async || {
            Ok(api.db.count(waiting).await? == 1)
        })
        .await?;
        Ok(transaction.commit().await?)
    };
    let (second, ()) = tokio::try_join!(api.post_once(&token, RESTORES, "k", None), commit)?;
    let second = second.with(200)?;
    assert_eq!(
        (&second["id"], &second["point"]),
        (&first["id"], &json!(old))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_and_the_api_tell_requests_apart_alike() -> Result<()> {
    let (api, token) = shop().await?;
    api.restore_point("shop", 10).await?;
    let row = api.db.catalog.resource("shop").await?;
    let at = |minutes| Some(chrono::Utc::now() - chrono::TimeDelta::minutes(minutes));
    let request = RestoreRequest {
        at: at(1),
        idempotency_key: Some("k".to_owned()),
        ..RestoreRequest::default()
    };
    let order = Order::new("test", None);
    let ask = async |request| restore(&api.db.catalog, &row, request, &order).await;
    let first = ask(&request).await?;
    assert_eq!(ask(&request).await?.enqueued.id(), first.enqueued.id());
    let same = api
        .post_once(&token, RESTORES, "k", Some(json!({ "at": request.at })))
        .await?
        .with(200)?;
    assert_eq!(same["id"], json!(first.enqueued.id()));
    // This request would find the same point.
    let other = RestoreRequest {
        at: at(2),
        ..request.clone()
    };
    let other = ask(&other).await;
    ensure!(
        matches!(other, Err(RequestError::Catalog(CatalogError::KeyReused))),
        "{other:?}"
    );
    Ok(())
}
