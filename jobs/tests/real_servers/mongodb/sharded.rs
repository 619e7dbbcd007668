//! The members of a sharded cluster are recognized, and a shard is backed up and restored only if it is meant.

use anyhow::{Context as _, Result};
use bson::{doc, oid::ObjectId};
use lastgood_jobs::{
    error::{ErrorKind, JobError, MongodbError},
    job::RestoreTarget,
};

use rstest::rstest;

use super::{
    lab::{Lab, PROGRAM, Private, is_skipped},
    restoring::Point,
};
use crate::{lab::attempt, subject::backup};

const MONGODB_4_4: &str = "LASTGOOD_TEST_MONGODB_4_4_PROGRAM";
const MONGODB_5_0: &str = "LASTGOOD_TEST_MONGODB_5_0_PROGRAM";

/// Starts the config servers and one shard of a cluster, as small as they can be. There is no router: the shard is told
/// what a router would tell it.
async fn cluster(program: &'static str) -> Result<Option<(Private, Private)>> {
    if is_skipped(program)? {
        return Ok(None);
    }
    let config = Private::of_program(program, &["--configsvr"]).await?;
    let shard = Private::of_program(program, &["--shardsvr"]).await?;
    let identity = doc! {
        "_id": "shardIdentity", "shardName": "s0", "clusterId": ObjectId::new(),
        "configsvrConnectionString": format!("rs0/127.0.0.1:{}", config.port),
    };
    let lab = Lab::private(&shard).await?;
    let system = lab.client.database("admin").collection("system.version");
    system.insert_one(identity).await?;
    Ok(Some((config, shard)))
}

#[rstest]
#[tokio::test]
async fn a_shard_is_backed_up_and_restored_only_if_it_is_meant(
    #[values(PROGRAM, MONGODB_4_4, MONGODB_5_0)] program: &'static str,
) -> Result<()> {
    let Some((_config, shard)) = cluster(program).await? else {
        return Ok(());
    };
    let mut lab = Lab::private(&shard).await?;
    lab.insert("orders", &[doc! {"_id": 1}]).await?;
    let before = lab.state().await?;
    let refused = lab.fails(&lab.resource, ErrorKind::Config, true).await?;
    assert!(matches!(refused, JobError::Mongodb(MongodbError::Shard)));
    lab.resource.options.shard = true;
    let point = backup(attempt(), &lab.resource, None, &lab.worker).await?;
    let warned = point.manifest.warnings.join("\n");
    assert!(warned.contains("no instant of the cluster"), "{warned}");
    let point = Point::from(&point);
    lab.run(doc! {"drop": "orders"}).await?;
    lab.resource.options.shard = false;
    let refused = lab
        .refuses(&point, RestoreTarget::Own {}, ErrorKind::Config)
        .await?;
    assert!(matches!(refused, JobError::Mongodb(MongodbError::Shard)));
    lab.resource.options.shard = true;
    // It may be a shard of any cluster.
    let elsewhere = RestoreTarget::Reference {
        reference: "env:X".to_owned(),
    };
    let url = Some(shard.url("copy"));
    let refused = lab.restore_to(attempt(), &point, elsewhere, url).await;
    let refused = refused.err().context("it was restored")?;
    assert!(matches!(refused, JobError::Mongodb(MongodbError::Shard)));
    lab.restore(&point, RestoreTarget::Own {}).await?;
    assert_eq!(lab.state().await?, before);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn config_servers_are_refused(
    #[values(PROGRAM, MONGODB_4_4, MONGODB_5_0)] program: &'static str,
) -> Result<()> {
    let Some((config, _shard)) = cluster(program).await? else {
        return Ok(());
    };
    let mut lab = Lab::private(&config).await?;
    lab.resource.url = config.url("").into();
    for shard in [false, true] {
        lab.resource.options.shard = shard;
        let refused = lab.fails(&lab.resource, ErrorKind::Config, true).await?;
        let is_named = matches!(refused, JobError::Mongodb(MongodbError::ConfigServers));
        assert!(is_named, "{}", refused.report());
    }
    Ok(())
}
