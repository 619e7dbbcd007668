//! The members of a sharded cluster are recognized, and a shard is backed up and restored only if it is meant.

use anyhow::Result;
use bson::{doc, oid::ObjectId};
use lastgood_jobs::{
    error::{ErrorKind, JobError, MongodbError},
    job::RestoreTarget,
};

use super::{
    lab::{Lab, Private},
    restoring::Point,
};
use crate::{lab::attempt, subject::backup};

/// Starts the config servers and one shard of a cluster, as small as they can be. There is no router: the shard is told
/// what a router would tell it.
async fn cluster() -> Result<(Private, Private)> {
    let config = Private::with_args(&["--configsvr"]).await?;
    let shard = Private::with_args(&["--shardsvr"]).await?;
    let identity = doc! {
        "_id": "shardIdentity", "shardName": "s0", "clusterId": ObjectId::new(),
        "configsvrConnectionString": format!("rs0/127.0.0.1:{}", config.port),
    };
    let lab = Lab::private(&shard).await?;
    let system = lab.client.database("admin").collection("system.version");
    system.insert_one(identity).await?;
    Ok((config, shard))
}

#[tokio::test]
async fn a_shard_is_backed_up_and_restored_only_if_it_is_meant() -> Result<()> {
    let (_config, shard) = cluster().await?;
    let mut lab = Lab::private(&shard).await?;
    lab.insert("orders", &[doc! {"_id": 1}]).await?;
    let before = lab.state().await?;
    let refused = lab.fails(&lab.resource, ErrorKind::Config, true).await?;
    assert!(matches!(refused, JobError::Mongodb(MongodbError::Shard)));
    lab.resource.options.shard = true;
    let point = Point::from(&backup(attempt(), &lab.resource, None, &lab.worker).await?);
    lab.run(doc! {"drop": "orders"}).await?;
    lab.resource.options.shard = false;
    lab.refuses(&point, RestoreTarget::Own {}, ErrorKind::Config)
        .await?;
    lab.resource.options.shard = true;
    lab.restore(&point, RestoreTarget::Own {}).await?;
    assert_eq!(lab.state().await?, before);
    Ok(())
}

#[tokio::test]
async fn config_servers_are_refused() -> Result<()> {
    let (config, _shard) = cluster().await?;
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
