//! The users of deploy/grants have exactly the rights that they need.

use ::mongodb::{Client, Database, error::ErrorKind};
use anyhow::{Context as _, Result, ensure};
use bson::{Document, doc};
use lastgood_jobs::{
    job::{Restore, RestoreTarget},
    sought::Sought,
};
use rstest::rstest;
use secrecy::ExposeSecret as _;

use super::{lab::Lab, restores::furnish, restoring::Point};
use crate::{
    lab::{MARKER, attempt},
    subject::{Subject, backup, restore},
};

pub(super) const BACKUP: &str = include_str!("../../../../deploy/grants/mongodb-backup.json");
const BACKUP_ALL: &str = include_str!("../../../../deploy/grants/mongodb-backup-all.json");
const OPLOG: &str = include_str!("../../../../deploy/grants/mongodb-oplog.json");
pub(super) const RESTORE: &str = include_str!("../../../../deploy/grants/mongodb-restore.json");
const RESTORE_ALL: &str = include_str!("../../../../deploy/grants/mongodb-restore-all.json");
const UNAUTHORIZED: i32 = 13;

/// Creates a file's role and user, and returns the resource as that user reaches it.
pub(super) async fn grant(file: &str, user: &str, lab: &Lab) -> Result<Subject> {
    let text = file
        .replace("\"shop\"", &format!("\"{}\"", lab.name))
        .replace(user, &format!("{user}-{}", lab.name))
        .replace("lastgood_oplog", &format!("lastgood_oplog-{}", lab.name))
        .replace("PASSWORD", MARKER);
    let admin = lab.client.database("admin");
    for mut command in serde_json::from_str::<Vec<Document>>(&text)? {
        if !lab.has_time_series() {
            leave_out_time_series(&mut command);
        }
        admin.run_command(command).await?;
    }
    let mut resource = lab.with_url(
        &format!("//{}:", lab.name),
        &format!("//{user}-{}:", lab.name),
    );
    resource.url = format!("{}?authSource=admin", resource.url.expose_secret()).into();
    Ok(resource)
}

/// Removes the rights that a server before 5.0 does not know, as docs/how-to/grants.md says.
fn leave_out_time_series(command: &mut Document) {
    if let Ok(privileges) = command.get_array_mut("privileges") {
        let is_of_series = |it: &bson::Bson| {
            let resource = it
                .as_document()
                .and_then(|it| it.get_document("resource").ok());
            resource.is_some_and(|it| it.contains_key("system_buckets"))
        };
        privileges.retain(|it| !is_of_series(it));
    }
}

/// Adds a time series, if the server knows any.
pub(super) async fn add_series(lab: &Lab) -> Result<()> {
    if !lab.has_time_series() {
        return Ok(());
    }
    lab.run(doc! {"create": "series", "timeseries": {"timeField": "at", "metaField": "of"}})
        .await?;
    lab.run(
        doc! {"createIndexes": "series", "indexes": [{"key": {"of": 1, "at": 1}, "name": "of"}]},
    )
    .await?;
    let at = bson::DateTime::from_millis(1_700_000_000_000);
    lab.insert("series", &[doc! {"at": at, "of": "a", "v": 1}])
        .await
}

async fn database(resource: &Subject, lab: &Lab) -> Result<Database> {
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

pub(super) async fn clean(lab: Lab, users: &[&str]) -> Result<()> {
    let oplog = format!("lastgood_oplog-{}", lab.name);
    let admin = lab.client.database("admin");
    admin.run_command(doc! {"dropRole": oplog}).await.ok();
    for user in users {
        for home in [lab.database(), lab.client.database("admin")] {
            let name = format!("{user}-{}", lab.name);
            home.run_command(doc! {"dropUser": &name}).await.ok();
            for role in ["", "_time_series"] {
                let name = match role {
                    "" => name.clone(),
                    role => format!("{name}{role}"),
                };
                home.run_command(doc! {"dropRole": name}).await.ok();
            }
        }
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
    add_series(&lab).await?;
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
async fn with_the_role_for_it_the_user_for_backups_reads_the_oplog() -> Result<()> {
    let lab = Lab::new().await?;
    lab.insert("a", &[doc! {"_id": 1}]).await?;
    let resource = grant(BACKUP, "lastgood_backup", &lab).await?;
    let local = database(&resource, &lab).await?.client().database("local");
    let find = doc! {"find": "oplog.rs", "limit": 1, "singleBatch": true};
    may_not(&local, find.clone()).await?;
    grant_oplog(&lab).await?;
    local.run_command(find).await?;
    clean(lab, &["lastgood_backup"]).await
}

/// Lets the user for backups read the oplog.
pub(super) async fn grant_oplog(lab: &Lab) -> Result<()> {
    grant(OPLOG, "lastgood_backup", lab).await?;
    let role = format!("lastgood_oplog-{}", lab.name);
    let user = format!("lastgood_backup-{}", lab.name);
    let command = doc! {"grantRolesToUser": user, "roles": [&role]};
    lab.client.database("admin").run_command(command).await?;
    Ok(())
}

#[rstest]
#[case::one_database(RESTORE)]
#[case::the_whole_deployment(RESTORE_ALL)]
#[tokio::test]
async fn the_user_for_restores_brings_everything_back(#[case] file: &str) -> Result<()> {
    let mut lab = Lab::new().await?;
    furnish(&lab).await?;
    add_series(&lab).await?;
    let before = lab.state().await?;
    let point = Point::from(&backup(attempt(), &lab.resource, None, &lab.worker).await?);
    for name in before.keys() {
        lab.run(doc! {"drop": name}).await?;
    }
    lab.resource = grant(file, "lastgood_restore", &lab).await?;
    lab.restore(&point, RestoreTarget::Own {}).await?;
    assert_eq!(lab.state().await?, before);
    lab.restore(&point, lab.over_itself()).await?;
    assert_eq!(lab.state().await?, before);
    clean(lab, &["lastgood_restore"]).await
}

#[tokio::test]
async fn the_user_for_restores_of_one_database_touches_no_other() -> Result<()> {
    let lab = Lab::new().await?;
    let resource = grant(RESTORE, "lastgood_restore", &lab).await?;
    let other = database(&resource, &lab)
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

#[tokio::test]
async fn users_come_back_by_the_user_for_restores_of_the_whole_deployment() -> Result<()> {
    let mut lab = Lab::new().await?;
    lab.insert("a", &[doc! {"_id": 1}]).await?;
    lab.run(doc! {"createUser": "somebody", "pwd": MARKER, "roles": ["read"]})
        .await?;
    let owner = lab.resource.clone();
    lab.resource = grant(BACKUP_ALL, "lastgood_backup", &lab).await?;
    lab.resource.options.users_and_roles = true;
    let point = Point::from(&backup(attempt(), &lab.resource, None, &lab.worker).await?);
    lab.run(doc! {"dropUser": "somebody"}).await?;
    lab.run(doc! {"drop": "a"}).await?;
    lab.resource = owner;
    lab.resource = grant(RESTORE_ALL, "lastgood_restore", &lab).await?;
    let restored = lab.restore(&point, RestoreTarget::Own {}).await?;
    assert_eq!(restored.notes, Vec::<String>::new());
    let told = lab.run(doc! {"usersInfo": "somebody"}).await?;
    assert_eq!(told.get_array("users")?.len(), 1);
    lab.run(doc! {"dropUser": "somebody"}).await?;
    clean(lab, &["lastgood_restore", "lastgood_backup"]).await
}

/// A team's token may name a database, and could read or fill another team's if the resource's user may write
/// everywhere.
#[rstest]
#[case::its_own(RESTORE, true)]
#[case::everybodys(RESTORE_ALL, false)]
#[tokio::test]
async fn a_name_from_a_team_counts_where_the_servers_own_rights_do(
    #[case] file: &str,
    #[case] is_allowed: bool,
) -> Result<()> {
    let lab = Lab::new().await?;
    lab.insert("a", &[doc! {"_id": 1}]).await?;
    let point = backup(attempt(), &lab.resource, None, &lab.worker).await?;
    lab.run(doc! {"drop": "a"}).await?;
    let resource = grant(file, "lastgood_restore", &lab).await?;
    let job = Restore {
        point: point.manifest.run_id.0,
        target: RestoreTarget::Database {
            name: lab.name.clone(),
        },
        no_owner: false,
        no_acl: false,
        as_superuser: false,
        no_tablespaces: false,
        break_replication: false,
        of_owner: true,
    };
    let sought = Sought::at(&point.manifest_key);
    let restored = restore(attempt(), &resource, &job, &sought, None, &lab.worker).await;
    match restored {
        Ok(_) => ensure!(is_allowed, "it was allowed"),
        Err(error) => {
            ensure!(!is_allowed, "{}", error.report());
            ensure!(error.is_permanent());
            let said = error.report();
            ensure!(said.contains("may write to every database"), "{said}");
        }
    }
    clean(lab, &["lastgood_restore"]).await
}
