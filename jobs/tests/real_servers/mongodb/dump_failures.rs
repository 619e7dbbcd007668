//! How a dump of MongoDB fails: with the right kind, without showing a secret, and without leaving anything behind.

use anyhow::Result;
use bson::doc;
use lastgood_jobs::error::ErrorKind;

use super::lab::{Lab, Private};
use crate::{
    lab::{attempt, shows_no_secret, until},
    proxy::Proxy,
    subject::backup,
};

#[tokio::test]
async fn a_wrong_password_is_final() -> Result<()> {
    let lab = Lab::new().await?;
    let resource = lab.with_url("hunter2-marker@", "hunter2-marker-wrong@");
    let error = lab.fails(&resource, ErrorKind::Auth, true).await?;
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(!error.report().contains("pg_hba"), "{}", error.report());
    lab.clean().await
}

#[tokio::test]
async fn a_database_without_collections_is_final_and_named() -> Result<()> {
    let lab = Lab::new().await?;
    let error = lab.fails(&lab.resource, ErrorKind::Config, true).await?;
    assert!(error.to_string().contains(&lab.name), "{error}");
    lab.clean().await
}

#[tokio::test]
async fn a_server_that_is_gone_may_come_back() -> Result<()> {
    let lab = Lab::new().await?;
    let mut resource = lab.resource.clone();
    // It was free a moment ago, so nothing listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let url =
        format!("mongodb://u:hunter2-marker@127.0.0.1:{port}/shop?serverSelectionTimeoutMS=200");
    resource.url = url.into();
    lab.fails(&resource, ErrorKind::Connect, false).await?;
    lab.clean().await
}

#[tokio::test]
async fn users_that_may_not_be_read_fail_the_backup_with_the_role_that_may() -> Result<()> {
    let mut lab = Lab::new().await?;
    lab.database()
        .collection("a")
        .insert_one(doc! {"x": 1})
        .await?;
    lab.resource.options.users_and_roles = true;
    let error = lab.fails(&lab.resource, ErrorKind::Auth, true).await?;
    assert!(error.to_string().contains("\"backup\""), "{error}");
    lab.clean().await
}

#[tokio::test]
async fn a_deployment_that_may_not_be_listed_fails_the_backup() -> Result<()> {
    let lab = Lab::new().await?;
    lab.database()
        .collection("a")
        .insert_one(doc! {"x": 1})
        .await?;
    let resource = lab.whole_deployment();
    let error = lab.fails(&resource, ErrorKind::Auth, true).await?;
    assert!(error.to_string().contains("list the databases"), "{error}");
    lab.clean().await
}

/// Fills a collection whose dump takes long enough to be interrupted half way.
async fn fill(lab: &Lab) -> Result<()> {
    for batch in 0..40 {
        let one = |n| doc! {"_id": batch * 1000 + n, "text": "0123456789abcdef".repeat(128)};
        let documents: Vec<_> = (0..1000).map(one).collect();
        lab.database()
            .collection("big")
            .insert_many(documents)
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_half_way_leaves_a_clear_error_and_no_object() -> Result<()> {
    let mut server = Private::start().await?;
    let lab = Lab::private(&server).await?;
    fill(&lab).await?;
    let (resource, worker) = (lab.resource.clone(), lab.worker.clone());
    let running = tokio::spawn(async move { backup(attempt(), &resource, None, &worker).await });
    until("the dump flows", || async {
        Ok(lab.worker.progress.so_far().0 > 0)
    })
    .await?;
    server.kill()?;
    let error = running.await?.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{}", error.report());
    assert!(!error.is_permanent());
    lab.leaves_nothing().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_dump_leaves_no_object_and_no_cursor() -> Result<()> {
    let server = Private::start().await?;
    let lab = Lab::private(&server).await?;
    fill(&lab).await?;
    let (resource, worker) = (lab.resource.clone(), lab.worker.clone());
    let running = tokio::spawn(async move { backup(attempt(), &resource, None, &worker).await });
    until("the dump flows", || async {
        Ok(lab.worker.progress.so_far().0 > 0)
    })
    .await?;
    running.abort();
    assert!(
        running.await.is_err(),
        "the backup was faster than the test"
    );
    lab.leaves_nothing().await?;
    until("no cursor is left", || async {
        let status = lab
            .client
            .database("admin")
            .run_command(doc! {"serverStatus": 1})
            .await?;
        let cursors = status.get_document("metrics")?.get_document("cursor")?;
        let open = cursors.get_document("open")?.get("total").cloned();
        Ok(matches!(
            open,
            Some(bson::Bson::Int64(0) | bson::Bson::Int32(0))
        ))
    })
    .await
}

#[tokio::test]
async fn a_connection_that_breaks_as_documents_are_read_is_an_error() -> Result<()> {
    let server = Private::start().await?;
    let lab = Lab::private(&server).await?;
    fill(&lab).await?;
    let to = server.url("shop").parse()?;
    let proxy = Proxy::breaking_at("getMore", 0, &to).await?;
    let mut resource = lab.resource.clone();
    // Otherwise the driver connects to the address that the server announces.
    let url = format!(
        "mongodb://u:hunter2-marker@127.0.0.1:{}/shop?directConnection=true",
        proxy.port
    );
    resource.url = url.replace("u:hunter2-marker@", "").into();
    let error = lab.fails(&resource, ErrorKind::Connect, false).await?;
    shows_no_secret(&error)
}

#[tokio::test]
async fn a_replica_set_of_another_name_is_final_and_named() -> Result<()> {
    let server = Private::start().await?;
    let lab = Lab::private(&server).await?;
    let mut resource = lab.resource.clone();
    resource.url = server
        .url("shop?replicaSet=other&serverSelectionTimeoutMS=2000")
        .into();
    let error = lab.fails(&resource, ErrorKind::Config, true).await?;
    assert!(error.report().contains("\"rs0\""), "{}", error.report());
    Ok(())
}
