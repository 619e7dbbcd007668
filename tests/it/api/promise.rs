//! A team's token sees how its own promises were kept, and nothing of another team's.

use anyhow::Result;
use lastgood::token::Scope;
use serde_json::json;

use super::lab::Api;

/// Returns an API with a day on record of each of two teams.
async fn counted() -> Result<Api> {
    let api = Api::create().await?;
    for (id, team) in [("shop", "acme"), ("wiki", "others")] {
        api.db.add(id, team, "pro").await?;
    }
    api.db
        .execute(
            "insert into lastgood.promise_days
             select (now() at time zone 'UTC')::date - 1, id, team, tier, 60, 86400, 900, 600, 0, 0, 4560 from lastgood.resources",
        )
        .await?;
    api.db
        .execute(
            "insert into lastgood.promise_totals
             select day, team, tier, 1, promised_seconds, late_seconds, broken_seconds, paused_seconds, down_seconds, worst_exposure_seconds
             from lastgood.promise_days",
        )
        .await?;
    Ok(api)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_sees_its_own_promises_alone() -> Result<()> {
    let api = counted().await?;
    let token = api.token(&[Scope::Read], Some("acme")).await?;
    let report = api.get(&token, "/promise").await?.with(200)?;
    assert_eq!(report["tiers"][0]["promised_seconds"], 86_400);
    assert_eq!(report["tiers"][0]["attained_percent"], 99.3056);
    assert_eq!(report["teams"][0]["team"], "acme");
    assert_eq!(report["resources"][0]["resource"], "shop");
    assert!(!report.to_string().contains("others"), "{report}");
    for of_others in ["team=others", "resource=wiki", "team=no+name", "tier=%00"] {
        let report = api
            .get(&token, &format!("/promise?{of_others}"))
            .await?
            .with(200)?;
        assert_eq!(report["tiers"], json!([]), "{of_others}");
        assert_eq!(report["resources"], json!([]), "{of_others}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_for_all_sees_each_team_and_days_that_do_not_fit_are_refused() -> Result<()> {
    let api = counted().await?;
    let token = api.token(&[Scope::Read], None).await?;
    let report = api.get(&token, "/promise").await?.with(200)?;
    assert_eq!(report["tiers"][0]["promised_seconds"], 2 * 86_400);
    assert_eq!(report["teams"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["breaches"], json!(null));
    let report = api
        .get(&token, "/promise?to=2020-01-31&from=2020-01-01")
        .await?
        .with(200)?;
    assert_eq!(report["tiers"], json!([]));
    let report = api
        .get(&token, "/promise?resource=wiki&team=others")
        .await?
        .with(200)?;
    assert_eq!(report["resources"][0]["broken_seconds"], 600);
    let refused = api
        .get(&token, "/promise?from=2020-02-01&to=2020-01-01")
        .await?
        .with(400)?;
    assert!(
        refused.to_string().contains("exchange the two"),
        "{refused}"
    );
    Ok(())
}
