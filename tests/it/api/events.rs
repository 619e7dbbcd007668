//! A run is followed to its end, and no longer.

use anyhow::{Context as _, Result, ensure};
use axum::{body::to_bytes, http::Method};
use futures::StreamExt as _;
use lastgood::catalog::{Mode, Order};
use lastgood_jobs::attempt::RunId;
use uuid::Uuid;

use super::lab::{Api, request};
use crate::eventually::{SOON, within};

async fn run(api: &Api, token: &str) -> Result<Uuid> {
    api.db.add("shop", "acme", "pro").await?;
    let run = api
        .ask(Method::POST, token, "/resources/shop/backups", None)
        .await?
        .with(202)?;
    Ok(run["id"].as_str().context("no id")?.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_tells_each_change_and_ends_with_the_run() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    let run = run(&api, &token).await?;
    let follow = request(
        Method::GET,
        &format!("/runs/{run}/events"),
        Some(&token),
        None,
    )?;
    let response = api.begin(follow).await?;
    ensure!(response.status() == 200 && response.headers()["content-type"] == "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let first = within(SOON, "a first event", stream.next())
        .await?
        .context("the stream ended")??;
    ensure!(first.starts_with(b"event: run\ndata: {"), "{first:?}");
    api.db
        .catalog
        .cancel_run(RunId(run), &Order::new("test", None), Mode::Real)
        .await?;
    let mut rest = String::new();
    let reading = async {
        while let Some(part) = stream.next().await {
            rest.push_str(std::str::from_utf8(&part?)?);
        }
        Ok::<_, anyhow::Error>(())
    };
    within(SOON, "the stream ends", reading).await??;
    ensure!(rest.contains("\"state\":\"cancelled\""), "{rest}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_and_a_revoked_token_end_the_stream() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    let run = run(&api, &token).await?;
    let path = format!("/runs/{run}/events");
    let response = api
        .begin(request(Method::GET, &path, Some(&token), None)?)
        .await?;
    let reader = api.token(&[lastgood::token::Scope::Read], None).await?;
    let of_reader = api
        .begin(request(Method::GET, &path, Some(&reader), None)?)
        .await?;
    let id = lastgood::token::Token::parse(&reader)
        .context("no token")?
        .id;
    api.db
        .catalog
        .revoke_token(id, &Order::new("test", None))
        .await?;
    within(
        SOON,
        "the revoked token's stream ends",
        to_bytes(of_reader.into_body(), 10_000),
    )
    .await??;
    api.stop.cancel();
    within(
        SOON,
        "the stream ends with the API",
        to_bytes(response.into_body(), 10_000),
    )
    .await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_ends_its_stream() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    let run = run(&api, &token).await?;
    let path = format!("/runs/{run}/events");
    let response = api
        .begin(request(Method::GET, &path, Some(&token), None)?)
        .await?;
    ensure!(response.status() == 200);
    api.db
        .execute("update lastgood.tokens set expires_at = now()")
        .await?;
    within(
        SOON,
        "the stream ends",
        to_bytes(response.into_body(), 10_000),
    )
    .await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_leaves_streams_to_others() -> Result<()> {
    let api = Api::create().await?;
    let token = api.admin().await?;
    let run = run(&api, &token).await?;
    let path = format!("/runs/{run}/events");
    let open = async |token: &str| {
        api.begin(request(Method::GET, &path, Some(token), None)?)
            .await
    };
    let mut mine = Vec::new();
    for _ in 0..16 {
        let response = open(&token).await?;
        ensure!(response.status() == 200);
        mine.push(response);
    }
    ensure!(open(&token).await?.status() == 429);
    let other = api.token(&[lastgood::token::Scope::Read], None).await?;
    ensure!(open(&other).await?.status() == 200);
    // A stream that ends makes room for another.
    mine.pop();
    ensure!(open(&token).await?.status() == 200);
    Ok(())
}
