//! The users of deploy/grants are enough for what they are for, and may do nothing else.

use ::mongodb::{Client, Database, error::ErrorKind};
use anyhow::{Context as _, Result, ensure};
use bson::{Document, doc};
use lastgood_jobs::{backup::backup, job::RestoreTarget, resource::Resource};
use rstest::rstest;
use secrecy::ExposeSecret as _;

use super::{lab::Lab, restores::furnish, restoring::Point};
use crate::lab::{MARKER, attempt};

const BACKUP: &str = include_str!("../../../../deploy/grants/mongodb-backup.json");
const BACKUP_ALL: &str = include_str!("../../../../deploy/grants/mongodb-backup-all.json");
const RESTORE: &str = include_str!("../../../../deploy/grants/mongodb-restore.json");
const UNAUTHORIZED: i32 = 13;

/// Makes a file's user in the lab's database, and returns the resource as that user sees it.
async fn grant(file: &str, user: &str, lab: &Lab) -> Result<Resource> {
    let text = file
        .replace("\"shop\"", &format!("\"{}\"", lab.name))
        .replace(user, &format!("{user}-{}", lab.name))
        .replace("PASSWORD", MARKER);
    lab.run(serde_json::from_str::<Document>(&text)?).await?;
    Ok(lab.with_url(
        &format!("//{}:", lab.name),
        &format!("//{user}-{}:", lab.name),
    ))
}

async fn database(resource: &Resource, lab: &Lab) -> Result<Database> {
    let client = Client::with_uri_str(resource.url.expose_secret()).await?;
    Ok(client.database(&lab.name))
}

async fn may_not(database: &Database, command: Document) -> Result<()> {
    let done = database.run_command(command.clone()).await;
    let error = done.err().context(format!("it may: {command}"))?;
    let is_refused =
        matches!(&*error.kind, ErrorKind::Command(fault) if fault.code == UNAUTHORIZED);
    ensure!(is_refused, "{command}: {error}");
    Ok(())
}

async fn clean(lab: Lab, users: &[&str]) -> Result<()> {
    for user in users {
        lab.run(doc! {"dropUser": format!("{user}-{}", lab.name)})
            .await?;
    }
    lab.clean().await
}

#[rstest]
#[case::one_database(BACKUP)]
#[case::the_whole_deployment(BACKUP_ALL)]
#[tokio::test]
async fn the_user_for_backups_reads_and_writes_nothing(#[case] file: &str) -> Result<()> {
    let lab = Lab::new().await?;
    furnish(&lab).await?;
    let resource = grant(file, "lastgood_backup", &lab).await?;
    backup(attempt(), &resource, None, &lab.worker).await?;
    let database = database(&resource, &lab).await?;
    for command in [
        doc! {"insert": "people", "documents": [{"_id": "x"}]},
        doc! {"delete": "people", "deletes": [{"q": {}, "limit": 0}]},
        doc! {"drop": "people"},
        doc! {"create": "mine"},
        doc! {"dropDatabase": 1},
        doc! {"createUser": "another", "pwd": MARKER, "roles": []},
    ] {
        may_not(&database, command).await?;
    }
    clean(lab, &["lastgood_backup"]).await
}

#[tokio::test]
async fn the_user_for_restores_fills_one_database_and_touches_no_other() -> Result<()> {
    let mut lab = Lab::new().await?;
    furnish(&lab).await?;
    let before = lab.state().await?;
    let point = Point::from(&backup(attempt(), &lab.resource, None, &lab.worker).await?);
    for name in before.keys() {
        lab.run(doc! {"drop": name}).await?;
    }
    lab.resource = grant(RESTORE, "lastgood_restore", &lab).await?;
    lab.restore(&point, RestoreTarget::Own {}).await?;
    assert_eq!(lab.state().await?, before);
    lab.restore(&point, lab.over_itself()).await?;
    assert_eq!(lab.state().await?, before);

    let other = database(&lab.resource, &lab)
        .await?
        .client()
        .database("another");
    for command in [
        doc! {"insert": "people", "documents": [{"_id": "x"}]},
        doc! {"find": "people"},
    ] {
        may_not(&other, command).await?;
    }
    clean(lab, &["lastgood_restore"]).await
}
