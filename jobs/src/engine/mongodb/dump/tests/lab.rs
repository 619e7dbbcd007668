//! A private store for the dumps of a pretend server, and a look into such a dump.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bson::Document;
use futures::future::BoxFuture;
use mongodb::{Client, Database};
use uuid::Uuid;

use super::super::dump;
use crate::{
    attempt::{Attempt, AttemptId, Epoch, RunId},
    backup::{RestorePoint, backup},
    clients::Toolbox,
    engine::{
        address::{self, Address},
        answer::Dumped,
        mongodb::pretend::Pretend,
    },
    error::JobError,
    format::mongodump::{FormatError, Prelude, Reader, Visit},
    job::{Restore, RestoreTarget},
    names::Engine,
    resource::{Resource, ResourceOptions},
    restore::restore,
    sought::Sought,
    storage::Storage,
    worker::{Lease, Progress, Worker},
};

const KEY: &str = "v1/acme/db-1/x.archive.zst";

struct Alive;

impl Lease for Alive {
    fn is_alive(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }
}

fn resource(url: String) -> Result<Resource, JobError> {
    Ok(Resource {
        id: "db-1".parse().unwrap(),
        team: "acme".parse().unwrap(),
        tier: "pro".parse().unwrap(),
        engine: Engine::Mongodb,
        address: Address::parse(Engine::Mongodb, &url.into())?,
        options: ResourceOptions::default(),
    })
}

fn attempt() -> Attempt {
    Attempt {
        run: RunId(Uuid::new_v4()),
        epoch: Epoch(1),
        id: AttemptId(uuid::Uuid::new_v4()),
        created_at: chrono::Utc::now(),
    }
}

/// A private store, and a worker that dumps into it.
pub(super) struct Lab {
    store: tempfile::TempDir,
    worker: Worker,
}

impl Lab {
    pub(super) async fn new() -> Result<Self> {
        let store = tempfile::tempdir()?;
        let worker = Worker {
            storage: Storage::open(&store.path().display().to_string().parse()?).await?,
            tools: Arc::new(Toolbox::default()),
            work_dir: store.path().to_owned(),
            encrypt_to: None,
            keyring: std::sync::Arc::new(crate::key::NoKeys),
            lease: Arc::new(Alive),
            progress: Arc::new(Progress::default()),
        };
        Ok(Self { store, worker })
    }

    pub(super) async fn dump(&self, server: &Pretend) -> Result<Dumped, JobError> {
        let address = address::mongodb::Address::parse(&server.url("bank").into())?;
        let options = ResourceOptions::default();
        Box::pin(dump(&address, options, KEY, &self.worker)).await
    }

    /// Makes a whole restore point.
    pub(super) async fn back_up(&self, server: &Pretend) -> Result<RestorePoint, JobError> {
        let resource = resource(server.url("bank"))?;
        backup(attempt(), &resource, None, &self.worker).await
    }

    /// Restores into a new database on the tests' server, and returns that database.
    pub(super) async fn restore(&self, point: &RestorePoint) -> Result<Database> {
        let variable = "LASTGOOD_TEST_MONGODB_URL";
        let server = std::env::var(variable).with_context(|| {
            format!("{variable} is not set: run `make test`, which starts the servers")
        })?;
        let name = format!("t-{}", &Uuid::new_v4().simple().to_string()[..12]);
        let job = Restore {
            point: point.manifest.run_id.0,
            target: RestoreTarget::Database { name: name.clone() },
            no_owner: false,
            no_acl: false,
            as_superuser: false,
            no_tablespaces: false,
            break_replication: false,
            of_owner: false,
        };
        let (sought, resource) = (Sought::at(&point.manifest_key), resource(server.clone())?);
        restore(attempt(), &resource, &job, &sought, None, &self.worker).await?;
        Ok(Client::with_uri_str(&server).await?.database(&name))
    }

    /// Returns the documents of the dump in the store, each with the index of its namespace.
    pub(super) fn documents(&self) -> Result<Vec<(usize, Document)>> {
        let bytes = std::fs::read(self.store.path().join("objects").join(KEY))?;
        let mut reader = Reader::new(Collect(Vec::new()));
        reader.feed(&zstd::decode_all(&bytes[..])?)?;
        let (_, Collect(documents)) = reader.finish()?;
        Ok(documents)
    }

    /// Returns whether the store holds no files.
    pub(super) fn is_empty(&self) -> Result<bool> {
        let mut directories = vec![self.store.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory)? {
                let path = entry?.path();
                if !path.is_dir() {
                    return Ok(false);
                }
                directories.push(path);
            }
        }
        Ok(true)
    }
}

struct Collect(Vec<(usize, Document)>);

impl Visit for Collect {
    fn prelude(&mut self, _: &Prelude) -> Result<(), FormatError> {
        Ok(())
    }

    fn document(&mut self, namespace: usize, raw: &[u8]) -> Result<(), FormatError> {
        let why = |error: bson::error::Error| FormatError::Refused {
            why: error.to_string(),
        };
        let document = bson::deserialize_from_slice(raw).map_err(why)?;
        self.0.push((namespace, document));
        Ok(())
    }

    fn end(&mut self, _: usize) -> Result<(), FormatError> {
        Ok(())
    }
}
