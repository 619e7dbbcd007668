//! Each version of MongoDB that there is for the tests is backed up and restored by the users of deploy/grants.
//!
//! The other tests of MongoDB run on any of them too, if `LASTGOOD_TEST_MONGODB_URL` has its address and
//! `LASTGOOD_TEST_MONGODB_PROGRAM` starts it.

use anyhow::{Context as _, Result, ensure};
use bson::doc;
use lastgood_jobs::{
    backup::RestorePoint,
    job::RestoreTarget,
    manifest::{Consistency, Details},
};
use rstest::rstest;

use super::{
    grants::{BACKUP, RESTORE, add_series, clean, grant, grant_oplog},
    lab::Lab,
    restores::furnish,
    restoring::Point,
    round_trips::adds_up,
};
use crate::{
    lab::{attempt, variable},
    subject::backup,
};

const MONGODB_4_4: &str = "LASTGOOD_TEST_MONGODB_4_4_URL";
const MONGODB_5_0: &str = "LASTGOOD_TEST_MONGODB_5_0_URL";
const MONGODB_6_0_27: &str = "LASTGOOD_TEST_MONGODB_6_0_27_URL";

#[rstest]
#[tokio::test]
async fn everything_comes_back_with_the_documented_grants(
    #[values(MONGODB_4_4, MONGODB_5_0, MONGODB_6_0_27)] server: &str,
) -> Result<()> {
    let Some(mut lab) = Lab::of_version(server).await? else {
        return Ok(());
    };
    furnish(&lab).await?;
    add_series(&lab).await?;
    let before = lab.state().await?;
    let owner = lab.resource.clone();
    lab.resource = grant(BACKUP, "lastgood_backup", &lab).await?;
    let RestorePoint { manifest, .. } = back_up(&lab).await?;
    if lab.has_snapshot_reads() {
        assert_eq!(manifest.consistency, Consistency::Snapshot);
    } else {
        assert_eq!(manifest.consistency, Consistency::None);
        let why = manifest.warnings.join("\n");
        ensure!(
            why.contains("only within a transaction: upgrade to 5.0"),
            "{why}"
        );
        ensure!(why.contains("oplog"), "{why}");
    }
    grant_oplog(&lab).await?;
    let point = back_up(&lab).await?;
    assert_eq!(point.manifest.consistency, Consistency::Snapshot);
    let Details::Mongodb { oplog_entries, .. } = point.manifest.details else {
        anyhow::bail!("{:?}", point.manifest.details);
    };
    assert_eq!(oplog_entries.is_none(), lab.has_snapshot_reads());

    for name in before.keys() {
        lab.run(doc! {"drop": name}).await?;
    }
    lab.resource = owner;
    lab.resource = grant(RESTORE, "lastgood_restore", &lab).await?;
    let point = Point::from(&point);
    lab.restore(&point, RestoreTarget::Own {}).await?;
    assert_eq!(lab.state().await?, before);
    lab.restore(&point, lab.over_itself()).await?;
    assert_eq!(lab.state().await?, before);
    clean(lab, &["lastgood_restore", "lastgood_backup"]).await
}

#[rstest]
#[tokio::test]
async fn what_is_restored_adds_up(
    #[values(MONGODB_4_4, MONGODB_5_0, MONGODB_6_0_27)] server: &str,
) -> Result<()> {
    let Some(mut lab) = Lab::of_version(server).await? else {
        return Ok(());
    };
    let root = variable(server)?;
    let (server, options) = root
        .split_once("/?")
        .context("an address without a database")?;
    lab.resource.url = format!("{server}/{}?{options}", lab.name).into();
    assert_eq!(adds_up(&lab).await?, [Consistency::Snapshot; 5]);
    lab.clean().await
}

async fn back_up(lab: &Lab) -> Result<RestorePoint> {
    Ok(backup(attempt(), &lab.resource, None, &lab.worker).await?)
}
