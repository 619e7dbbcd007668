//! A noun has the same fields wherever it is shown: from the command line with `--json`, from the API, and after every change.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use axum::http::Method;
use serde_json::{Value, json};

use super::lab::Api;
use crate::cli::process::run_on;

const MISSING: &str = "/runs/00000000-0000-0000-0000-000000000000";

/// Returns an API with two resources, their restore points and a live consumer, and a token with every right.
async fn two_shops() -> Result<(Api, String)> {
    let api = Api::create().await?;
    for shop in ["shop", "market"] {
        api.db.add(shop, "acme", "pro").await?;
        api.restore_point(shop, 10).await?;
    }
    api.db
        .execute(
            "insert into lastgood.consumers (id, host, pid, version, queues, slots, capabilities)
             values ('machine-1-a', 'machine', 1, '1.0.0', '{postgres}', 2, '[]')",
        )
        .await?;
    let token = api.admin().await?;
    Ok((api, token))
}

/// Returns what a command answers.
async fn told(api: &Api, command: &[&str]) -> Result<Value> {
    run_on(&api.db, &[&["--json"], command].concat())
        .await?
        .json()
}

/// Returns the names of the fields, of the first one if there are several.
fn fields(answer: &Value) -> Result<BTreeSet<String>> {
    let one = if answer.is_array() {
        &answer[0]
    } else {
        answer
    };
    let one = one.as_object().with_context(|| format!("{answer}"))?;
    Ok(one.keys().cloned().collect())
}

/// Checks that two answers have the same fields, except those that only the first has.
fn are_alike(what: &str, first: &Value, second: &Value, only_first: &[&str]) -> Result<()> {
    let mut expected = fields(second)?;
    expected.extend(only_first.iter().map(ToString::to_string));
    assert_eq!(fields(first)?, expected, "{what}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_has_the_same_fields_from_both() -> Result<()> {
    let (api, token) = two_shops().await?;
    let backup = ["backup", "now", "shop"];
    let run = told(&api, &backup).await?["id"]
        .as_str()
        .context("no run")?
        .to_owned();
    let run_path = format!("/runs/{run}");
    told(&api, &["queue", "pause", "--team", "x", "--reason", "test"]).await?;
    let proven = crate::proof_ledger::record(&api.db, run.parse()?, uuid::Uuid::new_v4()).await?;
    let (number, proof_path) = (proven.number.to_string(), format!("/proofs/{}", proven.id));
    for (command, path, only_told) in [
        (&["proof", "list"][..], "/proofs", &[][..]),
        (&["proof", "show", &number], &proof_path, &[]),
        (&["resource", "list"], "/resources", &[]),
        (&["resource", "show", "shop"], "/resources/shop", &[]),
        (&["run", "list"], "/runs", &[]),
        (&["run", "show", &run], &run_path, &[]),
        (
            &["point", "list", "shop"],
            "/resources/shop/restore-points",
            &[],
        ),
        (&["plans", "show"], "/plans", &[]),
        (&["consumer", "list"], "/consumers", &["running"]),
    ] {
        let answer = api.get(&token, path).await?.with(200)?;
        are_alike(path, &told(&api, command).await?, &answer, only_told)?;
    }
    let pauses = api.get(&token, "/queue/pauses").await?.with(200)?;
    let figures = told(&api, &["queue", "stats"]).await?;
    are_alike("pauses", &figures["pauses"], &pauses, &[])?;
    let shown = told(&api, &["status"]).await?;
    let status = api.get(&token, "/status").await?.with(200)?;
    for part in ["tiers", "resources", "suspended"] {
        are_alike(part, &shown[part], &status[part], &[])?;
    }
    let platform = &status["platform"];
    are_alike("queue", &shown["queue"], &platform["queue"], &[])?;
    let costs = ["resources", "broken", "breaking", "next_break_at"];
    are_alike("costs", &shown["pauses"], &platform["pauses"], &costs)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_answers_with_the_noun_that_it_changed() -> Result<()> {
    let (api, token) = two_shops().await?;
    let ask = async |method: Method, path: &str, body: Value| {
        api.ask(method, &token, path, Some(body)).await
    };
    let resource = api.get(&token, "/resources/shop").await?.with(200)?;
    let connection = ["--connection", "env:SHOP_URL"];
    let add = [
        "resource", "add", "new", "--team", "acme", "--tier", "pro", "--engine", "redis",
    ];
    for command in [
        &[&add[..], &connection].concat()[..],
        &["resource", "set", "shop", "--tier", "growth"],
        &["resource", "pause", "shop"],
        &["resource", "resume", "shop"],
        &["resource", "remove", "new"],
    ] {
        are_alike(command[1], &told(&api, command).await?, &resource, &[])?;
    }
    let status = json!({ "status": "paused" });
    let changed = ask(Method::PATCH, "/resources/market", status).await?;
    are_alike("PATCH", &changed.with(200)?, &resource, &[])?;

    let queued = ask(Method::POST, "/resources/shop/backups", json!({})).await?;
    let queued = queued.with(202)?;
    let id = queued["id"].as_str().context("no run")?;
    let backup = told(&api, &["backup", "now", "shop"]).await?;
    are_alike("backup now", &backup, &queued, &[])?;
    let dropping = told(&api, &["resource", "drop-replaced", "shop", "old"]).await?;
    are_alike("drop-replaced", &dropping, &queued, &[])?;
    let outcome = ["was", "refused_because"];
    let cancelled = told(&api, &["run", "cancel", id]).await?;
    are_alike("run cancel", &cancelled, &queued, &outcome)?;
    let retried = ask(Method::POST, &format!("/runs/{id}/retry"), json!({})).await?;
    are_alike("retry", &retried.with(200)?, &queued, &[])?;

    let restoring = told(&api, &["restore", "shop"]).await?;
    are_alike("restore", &restoring, &queued, &["point", "consistent_at"])?;
    api.db
        .execute("delete from lastgood.runs where kind = 'restore'")
        .await?;
    let restores = ask(Method::POST, "/resources/shop/restores", json!({})).await?;
    are_alike("restores", &restores.with(202)?, &restoring, &[])?;

    let points = told(&api, &["point", "list", "shop"]).await?;
    let point = points[0]["id"].as_str().context("no point")?;
    for verb in ["pin", "unpin", "hold", "release"] {
        let reason = ["--reason", "a test"];
        let with = ["pin", "hold"].contains(&verb);
        let command = [&["point", verb, point], &reason[..if with { 2 } else { 0 }]].concat();
        are_alike(verb, &told(&api, &command).await?, &points, &[])?;
    }
    for way in ["told", "asked"] {
        api.db
            .execute(
                "update lastgood.restore_points set suspected_at = now(), suspected_of = '{shrunk}', suspected_because = 'it shrank',
                     confirmed_at = null, confirmed_because = null",
            )
            .await?;
        let confirmed = if way == "told" {
            told(&api, &["point", "confirm", point, "--reason", "a test"]).await?
        } else {
            let path = format!("/restore-points/{point}/confirm");
            let reason = json!({ "reason": "a test" });
            ask(Method::POST, &path, reason).await?.with(200)?
        };
        are_alike(way, &confirmed, &points, &[])?;
        ensure!(confirmed["confirmed_reason"] == "a test", "{confirmed}");
    }
    let shown = told(&api, &["point", "show", point]).await?;
    are_alike("point show", &shown, &points, &["manifest"])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_about_the_queue_tokens_and_consumers_answer_with_them() -> Result<()> {
    let (api, token) = two_shops().await?;
    let ask = async |method: Method, path: &str, body: Option<Value>| {
        api.ask(method, &token, path, body).await
    };
    let of_team = ["--team", "x", "--reason", "test"];
    let paused = told(&api, &[&["queue", "pause"], &of_team[..]].concat()).await?;
    let pause = json!({ "team": "y", "reason": "test" });
    let asked = ask(Method::POST, "/queue/pauses", Some(pause)).await?;
    are_alike("pause", &paused, &asked.with(201)?, &[])?;
    let resumed = told(&api, &["queue", "resume", "--team", "x"]).await?;
    let ended = ask(Method::DELETE, "/queue/pauses?team=y", None).await?;
    are_alike("resume", &resumed, &ended.with(200)?, &[])?;
    are_alike("resumed", &resumed, &paused, &[])?;
    let drained = told(&api, &["queue", "drain"]).await?;
    let asked = ask(Method::POST, "/queue/drain", None).await?;
    are_alike("drain", &drained, &asked.with(200)?, &[])?;

    let create = ["token", "create", "--name", "website", "--scope", "read"];
    let made = told(&api, &create).await?;
    let tokens = told(&api, &["token", "list"]).await?;
    are_alike("token create", &made, &tokens, &["secret"])?;
    let id = made["id"].as_str().context("no id")?;
    let revoked = told(&api, &["token", "revoke", id]).await?;
    are_alike("token revoke", &revoked, &tokens, &[])?;

    let consumers = api.get(&token, "/consumers").await?.with(200)?;
    let asked = told(&api, &["consumer", "drain", "machine-1-a"]).await?;
    are_alike("consumer drain", &asked, &consumers, &[])?;
    assert_eq!(asked["state"], "draining");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_has_the_same_type_from_both() -> Result<()> {
    let (api, token) = two_shops().await?;
    let id = MISSING.trim_start_matches("/runs/");
    let said = run_on(&api.db, &["--json", "run", "show", id]).await?;
    let told: Value = serde_json::from_str(&said.err)?;
    let answered = api.get(&token, MISSING).await?.with(404)?;
    assert_eq!(told["type"], answered["type"]);
    are_alike("problem", &answered, &told, &["status", "instance"])?;

    let point = api.get(&token, "/resources/shop/restore-points").await?;
    let point = point.with(200)?[0]["id"].clone();
    let point = point.as_str().context("no point")?;
    let confirm = ["--json", "point", "confirm", point, "--reason", "a test"];
    let said = run_on(&api.db, &confirm).await?;
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    let told: Value = serde_json::from_str(&said.err)?;
    let path = format!("/restore-points/{point}/confirm");
    let reason = Some(json!({ "reason": "a test" }));
    let answered = api.ask(Method::POST, &token, &path, reason).await?;
    assert_eq!(told["type"], answered.with(409)?["type"]);
    Ok(())
}
