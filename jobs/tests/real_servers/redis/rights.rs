//! The least that a user needs, and what is said to one who has less.

use anyhow::Result;
use lastgood_jobs::job::RestoreTarget;
use rstest::rstest;

use super::{
    lab::{Lab, exact},
    server::{Flavour::Redis7, Server},
};
use crate::lab::{MARKER, shows_no_secret};

/// As the documentation has it: for an empty server, and what a restore in place takes besides.
const FILL: &str =
    "~* -@all +info +select +get +set +unlink +restore +function|list +function|load";
const IN_PLACE: &str = "+scan +function|flush";

async fn servers(user: &str) -> Result<Option<(Lab, super::lab::Point, Server, Server)>> {
    let user = format!("user restorer on >{MARKER} {user}");
    let (Some(source), Some(target)) = (
        Server::start(Redis7, &[]).await?,
        Server::start(Redis7, &[&user]).await?,
    ) else {
        return Ok(None);
    };
    source.run(3, "SET a 1\nXADD b * c d").await?;
    let library = "#!lua name=mine\nredis.register_function('f', function() return 1 end)";
    source
        .ask::<String>(0, &["FUNCTION", "LOAD", library])
        .await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    Ok(Some((lab, point, source, target)))
}

#[tokio::test]
async fn the_documented_rights_are_enough() -> Result<()> {
    let Some((lab, point, source, target)) = servers(FILL).await? else {
        return Ok(());
    };
    lab.restore(&point, &target.url_of("restorer"), RestoreTarget::Own {})
        .await?;
    assert_eq!(target.digest().await?, source.digest().await?);

    target
        .run(0, &format!("SET other 1\nACL SETUSER restorer {IN_PLACE}"))
        .await?;
    lab.restore(&point, &target.url_of("restorer"), exact()?)
        .await?;
    assert_eq!(target.digest().await?, source.digest().await?);
    Ok(())
}

#[rstest]
#[case("+info")]
#[case("+get")]
#[case("+unlink")]
#[case("+restore")]
#[case("+select")]
#[case("+function|list")]
#[case("+function|load")]
#[tokio::test]
async fn who_lacks_one_is_told_which_before_anything_is_written(#[case] right: &str) -> Result<()> {
    let Some((lab, point, _, target)) = servers(&FILL.replace(right, "")).await? else {
        return Ok(());
    };
    let own = RestoreTarget::Own {};
    let error = lab
        .restore(&point, &target.url_of("restorer"), own)
        .await
        .unwrap_err();
    shows_no_secret(&error)?;
    assert_eq!(
        (error.kind().as_str(), error.is_permanent()),
        ("auth", true),
        "{}",
        error.report()
    );
    let command = right
        .trim_start_matches('+')
        .replace('|', " ")
        .to_uppercase();
    assert!(error.to_string().contains(&command), "{}", error.report());
    assert_eq!(target.ask::<u64>(0, &["DBSIZE"]).await?, 0);
    Ok(())
}
