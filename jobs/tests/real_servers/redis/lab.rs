//! A store, a worker, and restore points made of a test's RDB files.

use std::sync::{Arc, atomic::AtomicBool};

use anyhow::Result;
use chrono::Utc;
use lastgood_jobs::{
    attempt::{Attempt, Epoch, RunId},
    clients::Toolbox,
    error::JobError,
    job::{Restore, RestoreTarget},
    manifest::{
        Compression, Consistency, Details, Dump, FORMAT, Manifest, RedisRead, Stored, VERSION,
    },
    resource::{Engine, ResourceOptions},
    restore::{Contents, Restored},
    sought::Sought,
    storage::Storage,
    worker::{Progress, Worker},
};

use crate::{
    lab::{Switch, attempt},
    subject::{Subject, restore},
};

/// The resource's id, which a restore in place must repeat.
pub(crate) const ID: &str = "cache-1";

/// A private store and a worker with a lease.
pub(crate) struct Lab {
    pub(crate) store: tempfile::TempDir,
    _work: tempfile::TempDir,
    pub(crate) worker: Worker,
    pub(crate) lease: Arc<Switch>,
}

/// A restore point's keys and id.
pub(crate) struct Point {
    pub(crate) manifest_key: String,
    pub(crate) archive: std::path::PathBuf,
    pub(crate) run_id: RunId,
}

impl Lab {
    pub(crate) async fn new() -> Result<Self> {
        let (store, work) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let lease = Arc::new(Switch(AtomicBool::new(true)));
        let worker = Worker {
            storage: Storage::open(&store.path().display().to_string().parse()?).await?,
            tools: Arc::new(Toolbox::default()),
            work_dir: work.path().to_owned(),
            encrypt_to: None,
            keyring: std::sync::Arc::new(lastgood_jobs::key::NoKeys),
            lease: lease.clone(),
            progress: Arc::new(Progress::default()),
        };
        Ok(Self {
            store,
            _work: work,
            worker,
            lease,
        })
    }

    /// Makes a restore point of a file, as a backup would.
    pub(crate) fn point_of(&self, rdb: &[u8]) -> Result<Point> {
        let archive = zstd::encode_all(rdb, 3)?;
        let run_id = RunId(uuid::Uuid::new_v4());
        let key = format!("v1/acme/{ID}/{run_id}-e1.rdb.zst");
        let manifest_key = format!("v1/acme/{ID}/{run_id}.manifest.json");
        let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        let now = Utc::now();
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            run_id,
            epoch: Epoch(1),
            attempt_id: None,
            installation: None,
            resource_id: ID.parse()?,
            team: "acme".parse()?,
            tier: "pro".parse()?,
            engine: Engine::Redis,
            consistent_at: now,
            consistency: Consistency::Snapshot,
            started_at: now,
            finished_at: now,
            made_by: "a test".to_owned(),
            archive: Stored {
                key: key.parse()?,
                size_bytes: archive.len() as u64,
                blake3: hash(&archive),
                compression: Compression::Zstd,
                encryption: None,
            },
            dump: Dump {
                format: "RDB".to_owned(),
                size_bytes: rdb.len() as u64,
                blake3: hash(rdb),
            },
            server_version: "a test".to_owned(),
            tool_version: "a test".to_owned(),
            contents: None,
            details: Details::Redis {
                rdb_version: 9,
                keys: std::collections::BTreeMap::new(),
                functions: 0,
                read_by: RedisRead::Replication,
            },
            warnings: Vec::new(),
            suspicions: Vec::new(),
        };
        let objects = self.store.path().join("objects");
        let path = objects.join(&key);
        std::fs::create_dir_all(objects.join(format!("v1/acme/{ID}")))?;
        std::fs::write(&path, archive)?;
        std::fs::write(objects.join(&manifest_key), serde_json::to_vec(&manifest)?)?;
        Ok(Point {
            manifest_key,
            archive: path,
            run_id,
        })
    }

    pub(crate) async fn restore(
        &self,
        point: &Point,
        url: &str,
        target: RestoreTarget,
    ) -> Result<Restored, JobError> {
        self.restore_as(attempt(), point, url, target).await
    }

    /// Restores to the resource's own server at `url`, or to a reference that resolves to `url`.
    pub(crate) async fn restore_as(
        &self,
        attempt: Attempt,
        point: &Point,
        url: &str,
        target: RestoreTarget,
    ) -> Result<Restored, JobError> {
        let (own, reference) = match target {
            RestoreTarget::Reference { .. } => {
                ("redis://nowhere.invalid", Some(url.to_owned().into()))
            }
            RestoreTarget::Swap {}
            | RestoreTarget::Own {}
            | RestoreTarget::Database { .. }
            | RestoreTarget::InPlace { .. } => (url, None),
        };
        let resource = Subject {
            id: ID.parse().map_err(|_| JobError::NoTargetUrl)?,
            team: "acme".parse().map_err(|_| JobError::NoTargetUrl)?,
            tier: "pro".parse().map_err(|_| JobError::NoTargetUrl)?,
            engine: Engine::Redis,
            options: ResourceOptions::default(),
            url: own.to_owned().into(),
        };
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
        restore(
            attempt,
            &resource,
            &job,
            &Sought::at(&point.manifest_key),
            reference,
            &self.worker,
        )
        .await
    }
}

/// A restore in place that removes all other keys.
pub(crate) fn exact() -> Result<RestoreTarget> {
    Ok(RestoreTarget::InPlace {
        overwrite: ID.parse()?,
        merge: false,
    })
}

/// A restore in place that keeps all other keys.
pub(crate) fn merge() -> Result<RestoreTarget> {
    Ok(RestoreTarget::InPlace {
        overwrite: ID.parse()?,
        merge: true,
    })
}

/// Returns the numbers of keys, expired keys, removed keys and functions.
pub(crate) fn counts(restored: &Restored) -> (u64, u64, u64, u64) {
    match restored.contents {
        Contents::Redis {
            keys,
            expired_keys,
            removed_keys,
            functions,
        } => (keys, expired_keys, removed_keys, functions),
        Contents::Postgres { .. } | Contents::Mongodb { .. } => (0, 0, 0, 0),
    }
}
