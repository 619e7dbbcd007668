//! The fewest rights that a user needs, and what a user with fewer is told.

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::job::RestoreTarget;
use rstest::rstest;

use super::{
    lab::{Lab, exact},
    server::{Flavour::Redis7, Server},
};
use crate::lab::{MARKER, shows_no_secret};

/// The rights for an empty server.
const FILL: &str = include_str!("../../../../deploy/grants/redis-restore.acl");
/// The rights for a server that is not empty.
const IN_PLACE: &str = include_str!("../../../../deploy/grants/redis-restore-in-place.acl");
const USER: &str = "lastgood_restore";

async fn servers(user: &str) -> Result<Option<(Lab, super::lab::Point, Server, Server)>> {
    let (Some(source), Some(target)) = (
        Server::start(Redis7, &[]).await?,
        Server::start(Redis7, &[&of_this_test(user)]).await?,
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

/// Sets this test's password in the file's line.
pub(super) fn of_this_test(file: &str) -> String {
    file.trim().replace("PASSWORD", MARKER)
}

/// Checks that the server refuses a command because a right is missing.
pub(super) async fn may_not(server: &Server, user: &str, command: &[&str]) -> Result<()> {
    let client = redis::Client::open(server.url_of(user))?;
    let mut session = client.get_multiplexed_async_connection().await?;
    let (name, arguments) = command.split_first().context("a command has a name")?;
    let done = redis::cmd(name)
        .arg(arguments)
        .query_async::<redis::Value>(&mut session)
        .await;
    let error = done.err().with_context(|| format!("it may: {command:?}"))?;
    ensure!(error.code() == Some("NOPERM"), "{command:?}: {error}");
    Ok(())
}

#[tokio::test]
async fn the_documented_rights_are_enough() -> Result<()> {
    let Some((lab, point, source, target)) = servers(FILL).await? else {
        return Ok(());
    };
    lab.restore(&point, &target.url_of(USER), RestoreTarget::Own {})
        .await?;
    assert_eq!(target.digest().await?, source.digest().await?);

    may_not(&target, USER, &["FLUSHALL"]).await?;
    may_not(&target, USER, &["CONFIG", "GET", "*"]).await?;
    may_not(&target, USER, &["ACL", "LIST"]).await?;
    may_not(&target, USER, &["SCAN", "0"]).await?;
    let in_place = of_this_test(IN_PLACE).replace("user ", "ACL SETUSER ");
    target.run(0, &format!("SET other 1\n{in_place}")).await?;
    lab.restore(&point, &target.url_of(USER), exact()?).await?;
    assert_eq!(target.digest().await?, source.digest().await?);
    may_not(&target, USER, &["FLUSHALL"]).await
}

#[rstest]
#[case("+info")]
#[case("+get")]
#[case("+set")]
#[case("+unlink")]
#[case("+restore")]
#[case("+select")]
#[case("+function|list")]
#[case("+function|restore")]
#[case("+function|dump")]
#[case("+multi")]
#[case("+exec")]
#[tokio::test]
async fn who_lacks_one_is_told_which_before_anything_is_written(#[case] right: &str) -> Result<()> {
    let Some((lab, point, _, target)) = servers(&FILL.replace(right, "")).await? else {
        return Ok(());
    };
    let own = RestoreTarget::Own {};
    let error = lab
        .restore(&point, &target.url_of(USER), own)
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
