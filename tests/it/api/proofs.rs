//! Proofs are listed by what they are about, and a team's token sees its team's alone.

use anyhow::{Context as _, Result};
use lastgood::token::Scope;
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use super::lab::Api;
use crate::{
    cli::process::run_on,
    proof_ledger::{record_as, run_of},
};

/// Three proofs: two of `acme`, of which one is a failed drill, and one of `other`.
async fn three_proofs() -> Result<Api> {
    let api = Api::create().await?;
    for (resource, team) in [("shop", "acme"), ("market", "other")] {
        api.db.add(resource, team, "pro").await?;
    }
    let many = json!({ "differences": "x".repeat(5000) });
    for (resource, proof, compared) in [
        ("shop", ("verification", None), json!({})),
        ("market", ("verification", None), json!({})),
        ("shop", ("drill", Some("it is damaged")), many),
    ] {
        let run = run_of(&api.db, resource).await?;
        record_as(&api.db, run, Uuid::new_v4(), proof, &compared).await?;
    }
    Ok(api)
}

fn numbers(proofs: &Value) -> Result<Vec<i64>> {
    let proofs = proofs.as_array().context("no list")?;
    let numbers = proofs.iter().map(|proof| proof["number"].as_i64());
    numbers.collect::<Option<_>>().context("no number")
}

#[rstest]
#[case::all("", &[], &[3, 2, 1])]
#[case::team("?team=acme", &["--team", "acme"], &[3, 1])]
#[case::resource("?resource=market", &["--resource", "market"], &[2])]
#[case::kind("?kind=drill", &["--kind", "drill"], &[3])]
#[case::outcome("?outcome=proven", &["--outcome", "proven"], &[2, 1])]
#[case::failed("?outcome=failed&team=acme", &["--outcome", "failed", "--team", "acme"], &[3])]
#[case::since("?since=2020-01-01T00:00:00Z", &["--since", "1h"], &[3, 2, 1])]
#[case::later("?since=2060-01-01T00:00:00Z", &["--since", "2060-01-01T00:00:00Z"], &[])]
#[case::limit("?limit=1", &["--limit", "1"], &[3])]
#[tokio::test(flavor = "multi_thread")]
async fn proofs_are_listed_newest_first_by_what_they_are_about(
    #[case] query: &str,
    #[case] options: &[&str],
    #[case] expected: &[i64],
) -> Result<()> {
    let api = three_proofs().await?;
    let token = api.admin().await?;
    let listed = api
        .get(&token, &format!("/proofs{query}"))
        .await?
        .with(200)?;
    assert_eq!(numbers(&listed)?, expected);
    let command = [&["--json", "proof", "list"], options].concat();
    let told = run_on(&api.db, &command).await?.json()?;
    assert_eq!(numbers(&told)?, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_team_sees_its_teams_proofs_alone() -> Result<()> {
    let api = three_proofs().await?;
    let token = api.token(&[Scope::Read], Some("other")).await?;
    let listed = api.get(&token, "/proofs").await?.with(200)?;
    assert_eq!(numbers(&listed)?, [2]);
    for query in ["team=acme", "resource=shop"] {
        let listed = api
            .get(&token, &format!("/proofs?{query}"))
            .await?
            .with(200)?;
        assert_eq!(listed, json!([]));
    }
    let theirs = api.db.catalog.proof_numbered(1).await?.id;
    api.get(&token, &format!("/proofs/{theirs}"))
        .await?
        .with(404)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_comparison_is_in_no_list_and_whole_by_itself() -> Result<()> {
    let api = three_proofs().await?;
    let token = api.admin().await?;
    let listed = api.get(&token, "/proofs?kind=drill").await?.with(200)?;
    assert_eq!(listed[0]["compared"]["left_out"], "it is large");
    let see = listed[0]["compared"]["see"]
        .as_str()
        .context("no address")?;
    let path = see.strip_prefix("/api/v1").context("elsewhere")?;
    let shown = api.get(&token, path).await?.with(200)?;
    let whole: lastgood::nouns::Proof = serde_json::from_value(shown)?;
    lastgood::proof::chain::intact(&whole)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_a_list_follow_each_other() -> Result<()> {
    let api = three_proofs().await?;
    let token = api.admin().await?;
    let first = api.get(&token, "/proofs?limit=2").await?.with(200)?;
    let last = first[1]["recorded_at"].as_str().context("no time")?;
    let next = api
        .get(&token, &format!("/proofs?limit=2&before={last}"))
        .await?
        .with(200)?;
    assert_eq!((numbers(&first)?, numbers(&next)?), (vec![3, 2], vec![1]));
    Ok(())
}
