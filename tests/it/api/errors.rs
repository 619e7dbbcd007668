//! An error is problem details with a request id; it says what to do and repeats no secret.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use axum::{
    body::Body,
    http::{Method, Request},
};
use serde_json::json;

use super::lab::{Api, request};
use crate::eventually::{SOON, eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_has_the_requests_id_and_every_answer_safe_headers() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    for (given, is_kept) in [
        (Some("call-7.a_B"), true),
        (Some("x y"), false),
        (Some(""), false),
        (None, false),
    ] {
        let mut asked = request(Method::GET, "/resources/nothing", Some(&token), None)?;
        if let Some(id) = given {
            asked.headers_mut().insert("x-request-id", id.parse()?);
        }
        let answer = api.send(asked).await?;
        let problem = answer.with(404)?;
        let id = answer
            .headers
            .get("x-request-id")
            .context("no id")?
            .to_str()?;
        assert_eq!(problem["instance"], id);
        assert_eq!(given == Some(id), is_kept);
        assert_eq!(problem["type"], "urn:lastgood:problem:not-found");
        assert_eq!(problem["status"], 404);
        for (name, value) in [
            ("content-type", "application/problem+json"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(answer.headers.get(name).context(name)?, value);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_refused_by_its_kind() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    let put = |body: &'static str, kind: Option<&'static str>| {
        let mut builder = Request::builder()
            .method(Method::PUT)
            .uri("/api/v1/resources/shop")
            .header("authorization", format!("Bearer {token}"));
        if let Some(kind) = kind {
            builder = builder.header("content-type", kind);
        }
        builder.body(Body::from(body))
    };
    let json = Some("application/json");
    for (body, kind, status, says) in [
        ("{", json, 400, "line 1"),
        ("", json, 400, "not JSON"),
        ("{}", json, 422, "missing field"),
        ("[]", json, 422, "array"),
        ("{\"teem\": 1}", json, 422, "unknown field"),
        ("{}", Some("text/plain"), 415, "Content-Type"),
        ("{}", None, 415, "Content-Type"),
    ] {
        let answer = api.send(put(body, kind)?).await?;
        let problem = answer.with(status)?;
        ensure!(
            problem["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains(says)),
            "{body}: {problem}"
        );
    }
    let large: &'static str =
        Box::leak(format!("{{\"team\": \"{}\"}}", "x".repeat(64 * 1024)).into_boxed_str());
    api.send(put(large, json)?).await?.with(413)?;
    for query in [
        "limit=0",
        "limit=501",
        "limit=x",
        "resource=no%20name&limit=0",
        "sate=failed",
        "state=sleeping",
        "engine=oracle",
        "before=yesterday",
        "before=0001-01-01T00:00:00Z",
    ] {
        api.get(&token, &format!("/runs?{query}"))
            .await?
            .with(400)?;
    }
    let other = api.ask(Method::DELETE, &token, "/status", None).await?;
    other.with(405)?;
    assert_eq!(other.headers.get("allow").context("no allow")?, "GET,HEAD");
    api.get(&token, "/nothing").await?.with(404)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_in_the_wrong_place_is_not_repeated() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    api.db.add("shop", "acme", "pro").await?;
    let secret = "hunter2-marker";
    let url = format!("postgresql://u:{secret}@h/shop");
    let whole = |field: &str| {
        let mut body = json!({ "team": "acme", "tier": "pro", "engine": "postgres", "url": url });
        body[field] = json!(url);
        body
    };
    for field in [
        "team",
        "tier",
        "engine",
        "retention_days",
        "connection",
        "read_preference",
        "users_and_roles",
    ] {
        let answer = api
            .ask(Method::PUT, &token, "/resources/new", Some(whole(field)))
            .await?;
        ensure!(
            answer.status == 422 && !answer.body.contains(secret),
            "{field}: {answer:?}"
        );
    }
    for url in [
        format!("mysql://u:{secret}@h/d"),
        format!("postgresql://u:{secret}@"),
        secret.to_owned(),
        format!("redis://{secret}@h\u{0}"),
    ] {
        let body = json!({ "team": "acme", "tier": "pro", "engine": "postgres", "url": url });
        let answer = api
            .ask(Method::PUT, &token, "/resources/new", Some(body))
            .await?;
        ensure!(
            answer.status == 422 && !answer.body.contains(secret),
            "{answer:?}"
        );
    }
    let into = api
        .ask(
            Method::POST,
            &token,
            "/resources/shop/restores",
            Some(json!({ "into": url })),
        )
        .await?;
    ensure!(
        into.status == 422 && !into.body.contains(secret),
        "{into:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_no_text_names_nothing() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    for (method, path) in [
        (Method::GET, "/resources/%FF"),
        (Method::PATCH, "/resources/%FF"),
        (Method::DELETE, "/resources/%FF"),
        (Method::GET, "/resources/%FF/restore-points"),
        (Method::POST, "/resources/%FF/backups"),
        (Method::POST, "/resources/%FF/restores"),
        (Method::GET, "/runs/%FF"),
        (Method::GET, "/runs/%FF/events"),
        (Method::POST, "/runs/%FF/retry"),
        (Method::POST, "/runs/%FF/cancel"),
    ] {
        let body = (method == Method::PATCH).then(|| json!({}));
        let answer = api.ask(method.clone(), &token, path, body).await?;
        let problem = answer.with(404)?;
        assert_eq!(
            problem["type"], "urn:lastgood:problem:not-found",
            "{method} {path}"
        );
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    let put = json!({ "team": "acme", "tier": "pro", "engine": "postgres", "connection": "env:A" });
    api.ask(Method::PUT, &token, "/resources/%FF", Some(put))
        .await?
        .with(422)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_takes_too_long_is_a_problem_and_the_next_one_is_good() -> Result<()> {
    let api = Api::with(|settings| settings.answered_within = Duration::from_millis(500)).await?;
    let token = api.admin().await?;
    let mut locked = api.db.pool().begin().await?;
    sqlx::query("lock table lastgood.tokens in access exclusive mode")
        .execute(&mut *locked)
        .await?;
    let late = within(SOON, "an answer", api.get(&token, "/resources")).await??;
    let problem = late.with(503)?;
    assert_eq!(problem["type"], "urn:lastgood:problem:timed-out");
    ensure!(
        late.headers.contains_key("retry-after") && late.body.contains("500ms"),
        "{late:?}"
    );
    locked.rollback().await?;
    eventually(SOON, "the API answers again", async || {
        Ok(api.get(&token, "/resources").await?.status == 200)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_master_key_than_before_is_told_as_what_it_is() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    api.db.add("sealed", "acme", "pro").await?;
    // As if another key had sealed it.
    api.db
        .execute("update lastgood.resources set connection_ref = null, connection_sealed = '\\x01020304'")
        .await?;
    let put = json!({ "team": "acme", "tier": "pro", "engine": "postgres", "url": "postgresql://u:p@h/d" });
    let answer = api
        .ask(Method::PUT, &token, "/resources/new", Some(put))
        .await?;
    ensure!(
        answer.with(503)?["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("not the catalog's")),
        "{answer:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_after_what_was_done_does_not_deny_it() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    api.db.add("shop", "acme", "pro").await?;
    // After the change, the row cannot be read any more.
    api.db
        .execute(
            "create function lastgood.spoil() returns trigger language plpgsql as
                 $$ begin execute 'alter table lastgood.resources rename column options to spoilt'; return null; end $$",
        )
        .await?;
    api.db
        .execute(
            "create constraint trigger spoil after update on lastgood.resources deferrable initially deferred
                 for each row execute function lastgood.spoil()",
        )
        .await?;
    let answer = api
        .ask(
            Method::PATCH,
            &token,
            "/resources/shop",
            Some(json!({ "tier": "hobby" })),
        )
        .await?;
    let detail = answer.with(500)?["detail"].clone();
    assert_eq!(
        api.db
            .count("select count(*) from lastgood.resources where tier = 'hobby'")
            .await?,
        1
    );
    ensure!(
        detail
            .as_str()
            .is_some_and(|detail| detail.contains("may or may not have taken effect")),
        "{answer:?}"
    );
    Ok(())
}
