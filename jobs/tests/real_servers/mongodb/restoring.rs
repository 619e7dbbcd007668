//! What tests of restores share: forged restore points, and the state of a database.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use bson::{Document, RawDocumentBuf, doc};
use chrono::Utc;
use futures::TryStreamExt as _;
use lastgood_jobs::{
    attempt::{Attempt, Epoch, RunId},
    error::{ErrorKind, JobError},
    job::{Restore, RestoreTarget},
    manifest::{Compression, Consistency, Details, Dump, FORMAT, Manifest, Stored, VERSION},
    resource::Engine,
    restore::{Contents, Restored},
    sought::Sought,
};
use mongodb::Database;
use uuid::Uuid;

use super::lab::Lab;
use crate::{
    lab::{attempt, shows_no_secret},
    subject::restore,
};

/// A restore point that lastgood's backup did not make.
pub(crate) struct Point {
    pub(crate) run_id: RunId,
    pub(crate) manifest_key: String,
    pub(crate) archive_key: String,
}

impl Lab {
    /// Stores an archive with its manifest, either of this lab's database or of a whole deployment.
    pub(crate) fn store(&self, dump: &[u8], database: Option<&str>) -> Result<Point> {
        let stored = zstd::encode_all(dump, 1)?;
        let run_id = RunId(Uuid::new_v4());
        let archive_key = format!("v1/acme/db-1/{run_id}.mongoarchive.zst");
        let manifest_key = format!("v1/acme/db-1/{run_id}.manifest.json");
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            run_id,
            epoch: Epoch(1),
            attempt_id: None,
            installation: None,
            resource_id: self.resource.id.clone(),
            team: self.resource.team.clone(),
            tier: self.resource.tier.clone(),
            engine: Engine::Mongodb,
            consistent_at: Utc::now(),
            consistency: Consistency::Snapshot,
            started_at: Utc::now(),
            finished_at: Utc::now(),
            made_by: "a test".to_owned(),
            archive: Stored {
                key: archive_key.parse()?,
                size_bytes: stored.len() as u64,
                blake3: blake3::hash(&stored).to_hex().to_string(),
                compression: Compression::Zstd,
                encryption: None,
            },
            dump: Dump {
                format: "mongodump archive".to_owned(),
                size_bytes: dump.len() as u64,
                blake3: blake3::hash(dump).to_hex().to_string(),
            },
            server_version: "MongoDB 8.0.4".to_owned(),
            tool_version: "a test".to_owned(),
            contents: None,
            details: Details::Mongodb {
                database: database.map(str::to_owned),
                collections: 0,
                documents: 0,
                users_and_roles: false,
                oplog_entries: None,
                exceptions: Vec::new(),
            },
            warnings: Vec::new(),
            suspicions: Vec::new(),
        };
        self.put(&archive_key, &stored)?;
        self.put(&manifest_key, &serde_json::to_vec(&manifest)?)?;
        Ok(Point {
            run_id,
            manifest_key,
            archive_key,
        })
    }

    pub(crate) fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let path = self.store.path().join("objects").join(key);
        std::fs::create_dir_all(path.parent().context("a key has a directory")?)?;
        Ok(std::fs::write(path, bytes)?)
    }

    pub(crate) async fn restore(
        &self,
        point: &Point,
        target: RestoreTarget,
    ) -> Result<Restored, JobError> {
        self.restore_as(attempt(), point, target).await
    }

    pub(crate) async fn restore_as(
        &self,
        attempt: Attempt,
        point: &Point,
        target: RestoreTarget,
    ) -> Result<Restored, JobError> {
        self.restore_to(attempt, point, target, None).await
    }

    /// Restores to a different URL.
    pub(crate) async fn restore_to(
        &self,
        attempt: Attempt,
        point: &Point,
        target: RestoreTarget,
        url: Option<String>,
    ) -> Result<Restored, JobError> {
        let job = Restore {
            point: point.run_id.0,
            target,
            no_owner: false,
            no_acl: false,
            as_superuser: false,
            no_tablespaces: false,
            break_replication: false,
            of_owner: false,
        };
        let (resource, worker) = (&self.resource, &self.worker);
        let url = url.map(Into::into);
        let sought = Sought::at(&point.manifest_key);
        restore(attempt, resource, &job, &sought, url, worker).await
    }

    /// Checks that a restore fails as expected, without showing a secret.
    pub(crate) async fn refuses(
        &self,
        point: &Point,
        target: RestoreTarget,
        kind: ErrorKind,
    ) -> Result<JobError> {
        let result = self.restore(point, target).await;
        let error = result.err().context("the restore succeeded")?;
        shows_no_secret(&error)?;
        ensure!(
            error.kind() == kind,
            "{:?}: {}",
            error.kind(),
            error.report()
        );
        Ok(error)
    }

    pub(crate) fn over_itself(&self) -> RestoreTarget {
        RestoreTarget::InPlace {
            overwrite: self.resource.id.clone(),
            merge: false,
        }
    }

    /// Returns the state of the private database.
    pub(crate) async fn state(&self) -> Result<State> {
        state(&self.database()).await
    }

    pub(crate) async fn insert(&self, collection: &str, documents: &[Document]) -> Result<()> {
        let collection = self.database().collection::<Document>(collection);
        collection.insert_many(documents).await?;
        Ok(())
    }
}

/// Collections by name: their options, their indexes by name, and their documents sorted by their bytes.
pub(crate) type State = BTreeMap<String, Collection>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Collection {
    pub(crate) options: Vec<u8>,
    pub(crate) indexes: BTreeMap<String, Vec<u8>>,
    pub(crate) documents: Vec<Vec<u8>>,
}

pub(crate) async fn state(database: &Database) -> Result<State> {
    let list = doc! {"listCollections": 1};
    let found = database.run_cursor_command(list).await?;
    // As raw documents, because documents that look like extended JSON would be converted otherwise.
    let found: Vec<RawDocumentBuf> = found.with_type().try_collect().await?;
    let mut state = State::new();
    for told in &found {
        let name = told.get_str("name")?;
        if name == "system.views" || name.starts_with("system.buckets.") {
            // `system.views` may not be read, and few users may read buckets. Views and time series show their
            // contents.
            continue;
        }
        let mut indexes = BTreeMap::new();
        if told.get_str("type")? != "view" {
            let list = doc! {"listIndexes": name};
            let listed = database.run_cursor_command(list).await?;
            let listed: Vec<RawDocumentBuf> = listed.with_type().try_collect().await?;
            for index in listed {
                indexes.insert(index.get_str("name")?.to_owned(), index.into_bytes());
            }
        }
        let collection = database.collection::<RawDocumentBuf>(name);
        let all: Vec<RawDocumentBuf> = collection.find(doc! {}).await?.try_collect().await?;
        let mut documents: Vec<_> = all.into_iter().map(RawDocumentBuf::into_bytes).collect();
        if told.get_document("options")?.get_bool("capped").is_err() {
            documents.sort();
        }
        let collection = Collection {
            options: told.get_document("options")?.as_bytes().to_vec(),
            indexes,
            documents,
        };
        state.insert(name.to_owned(), collection);
    }
    Ok(state)
}

/// Returns how many collections, documents and indexes a restore reports.
pub(crate) fn counts(restored: &Restored) -> (u64, u64, u64) {
    match restored.contents {
        Contents::Mongodb {
            collections,
            documents,
            indexes,
        } => (collections, documents, indexes),
        Contents::Postgres { .. } | Contents::Redis { .. } => (0, 0, 0),
    }
}
