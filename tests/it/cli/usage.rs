//! A command that cannot run says why and what to do; usage errors are exit code 2, failures 1.

use anyhow::Result;
use rstest::rstest;

use super::process::{run, run_on, run_with};
use crate::database::TestCatalog;

#[rstest]
#[case::an_unknown_command(&["frobnicate"], "unrecognized subcommand")]
#[case::an_unknown_flag(&["status", "--wrong"], "unexpected argument")]
#[case::a_missing_argument(&["resource", "show"], "required")]
#[case::an_id_that_is_a_path(&["resource", "show", "../etc"], "is not a resource id")]
#[case::a_duration_without_a_unit(&["producer", "--tick", "5"], "invalid value")]
#[case::a_state_of_its_own(&["run", "list", "--state", "lost"], "possible values")]
#[case::no_time_to_answer(&["doctor", "--within", "0s"], "longer than zero")]
#[case::a_store_named_twice(
    &["restore", "shop", "--from", "/a", "--storage", "/b", "--into", "env:A"],
    "--storage cannot be used with --from"
)]
#[case::a_flag_of_restores_in_place(
    &["restore", "shop", "--from", "/a", "--into", "env:A", "--overwrite", "shop"],
    "cannot be used with"
)]
#[case::a_team_of_a_manifest(
    &["restore", "--from-manifest", "v1/a", "--into", "env:A", "--team", "acme"],
    "cannot be used with"
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_usage_error_is_exit_code_2(
    #[case] arguments: &[&str],
    #[case] text: &str,
) -> Result<()> {
    let said = run(arguments).await?;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains(text), "{said:?}");
    assert_eq!(said.out, "");
    Ok(())
}

/// Compose files and units write flags in many ways.
#[rstest]
#[case::one("1", None)]
#[case::yes("yes", None)]
#[case::truth("TRUE", None)]
#[case::zero("0", None)]
#[case::off("off", None)]
#[case::empty("", None)]
#[case::neither("maybe", Some("is neither on nor off: give 1 or 0"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_flag_in_the_environment_is_on_or_off(
    #[case] value: &str,
    #[case] refusal: Option<&str>,
) -> Result<()> {
    let variable = ("LASTGOOD_PUBLIC_CAPABILITIES", value);
    let said = run_with(variable, &["api"]).await?;
    // Without a refusal, it goes on, and misses the catalog.
    let text = refusal.unwrap_or("DATABASE_URL");
    assert!(said.err.contains(text), "{said:?}");
    assert_eq!(said.code == 2, refusal.is_some(), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn help_and_version_are_answers() -> Result<()> {
    let help = run(&["--help"]).await?;
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert!(help.out.contains("resource") && help.out.contains("restore"));
    let version = run(&["--version"]).await?;
    assert_eq!(
        version.out,
        format!("lastgood {}\n", lastgood::version::VERSION)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_catalog_a_command_says_which_variable_to_set() -> Result<()> {
    for arguments in [
        &["migrate"][..],
        &["status"],
        &["resource", "list"],
        &["producer"],
    ] {
        let said = run(arguments).await?;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("set DATABASE_URL"), "{said:?}");
    }
    Ok(())
}

#[rstest]
#[case::not_a_url("marker", "is not a PostgreSQL URL")]
#[case::nobody_there("postgresql://u:marker@127.0.0.1:9/db", "cannot reach the catalog")]
#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_cannot_be_reached_is_said_without_its_password(
    #[case] url: &str,
    #[case] text: &str,
) -> Result<()> {
    let said = run_with(("DATABASE_URL", url), &["status"]).await?;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains(text), "{said:?}");
    // The driver's errors repeat their causes, which are in the chain as well.
    assert!(said.err.matches("refused").count() < 2, "{said:?}");
    assert!(
        !said.err.contains("marker") && !said.out.contains("marker"),
        "{said:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_json_where_json_was_asked_for() -> Result<()> {
    let said = run(&["--json", "status"]).await?;
    let error: serde_json::Value = serde_json::from_str(&said.err)?;
    assert!(
        error["detail"]
            .as_str()
            .is_some_and(|text| text.contains("DATABASE_URL"))
    );
    assert_eq!(error["type"], "urn:lastgood:problem:failed");
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_is_made_by_migrate_and_before_that_every_command_says_so() -> Result<()> {
    let db = TestCatalog::without_schema().await?;
    for arguments in [&["status"][..], &["resource", "list"], &["producer"]] {
        let said = run_on(&db, arguments).await?;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("run `lastgood migrate`"), "{said:?}");
    }
    for _ in 0..2 {
        let said = run_on(&db, &["migrate"]).await?;
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        assert_eq!(said.out, "the catalog's schema is up to date\n");
    }
    assert_eq!(run_on(&db, &["status"]).await?.code, 0);
    Ok(())
}

#[rstest]
#[case("bash", "complete")]
#[case("zsh", "#compdef lastgood")]
#[case("fish", "complete -c lastgood")]
#[tokio::test(flavor = "multi_thread")]
async fn completions_are_printed(#[case] shell: &str, #[case] text: &str) -> Result<()> {
    let said = run(&["completions", shell]).await?;
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.out.contains(text) && said.out.contains("doctor"));
    Ok(())
}
