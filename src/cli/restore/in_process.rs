//! A restore in this process, without queue or catalog, from the first store that has the archive intact.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use futures::{FutureExt as _, future::BoxFuture};
use lastgood_jobs::{
    attempt::{Attempt, AttemptId, Epoch, RunId},
    detached,
    engine::address::Address,
    error::{JobError, KeyError, PostgresError},
    escrow,
    job::{Restore, RestoreTarget},
    manifest::Manifest,
    resource::{Resource, ResourceId, ResourceOptions},
    restore::{Restored, restore},
    sought::Sought,
    storage::Storage,
    survey::suspicions,
    worker::{Lease, Progress, Worker},
};
use secrecy::SecretString;
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    super::{
        consumer::default_work_dir,
        output::{Output, instant, printable},
        stop_on_signal,
    },
    Args,
    identity::keyring,
};
use crate::{
    consumer::WorkDir,
    secret::{Reference, SecretError},
    stores::NamedStore,
};

/// How long an interrupted restore may take to clean up.
const SETTLED_WITHIN: Duration = Duration::from_secs(4);

/// The empty database of `--into`.
pub(super) struct Target {
    reference: Reference,
    url: SecretString,
}

/// The outcome of a restore.
pub(super) enum Outcome {
    Restored(Box<Done>),
    /// No store had the archive intact; the reasons, store by store. The target was not touched.
    NotWhole(Vec<String>),
}

/// What was restored, and where.
pub(super) struct Done {
    restored: Restored,
    resource: ResourceId,
    consistent_at: DateTime<Utc>,
    into: Reference,
}

impl Target {
    /// Returns the target of `--into`, as this process sees it.
    pub(super) async fn of(args: &Args) -> anyhow::Result<Self> {
        let into = args.into.as_deref().context(
            "name the target: --into env:NAME or file:/path, with the URL of an empty database",
        )?;
        let reference: Reference = into.parse().map_err(|error| {
            if let SecretError::UrlInArgv = error {
                return anyhow::anyhow!(
                    "a URL on the command line can be read by every user of this machine: use --into env:NAME or file:/path"
                );
            }
            anyhow::anyhow!(
                "without a catalog, the resource's server is unknown: use --into env:NAME or file:/path, with the URL of an \
                 empty database"
            )
        })?;
        // Rewords errors that speak of consumers: there are none here.
        let url = reference.resolve().await.map_err(|error| {
            if let SecretError::NoSuchVariable(name) = error {
                return anyhow::anyhow!("environment variable {name} is not set here");
            }
            if let SecretError::NoSuchFile { path, source } = error {
                return anyhow::anyhow!("cannot read {path}, which --into names: {source}");
            }
            error.into()
        })?;
        Ok(Self { reference, url })
    }
}

/// Restores a point from the first store that has its archive intact.
///
/// Refuses a suspect point, and an unencrypted archive where archives are encrypted, unless the flags allow it.
pub(super) async fn restore_from_one(
    sought: &Sought<'_>,
    stores: &[(NamedStore, Manifest)],
    target: &Target,
    args: &Args,
    output: &Output,
) -> anyhow::Result<Outcome> {
    let private = WorkDir::create(&args.work_dir.clone().unwrap_or_else(default_work_dir))?;
    let tools = Arc::new(args.tools.discover().await);
    let mut faults = Vec::new();
    for (store, manifest) in stores {
        let at = instant(manifest.consistent_at);
        output.note(&format!(
            "restoring {} ({}) as of {at} from {}",
            manifest.resource_id, manifest.engine, store.url
        ));
        refuse_suspect(manifest, args, output)?;
        refuse_unencrypted(manifest, args, &store.storage).await?;
        let worker = Worker {
            encrypt_to: None,
            keyring: keyring(args.identity.as_deref(), &store.storage)?,
            storage: store.storage.clone(),
            tools: Arc::clone(&tools),
            work_dir: private.path().to_owned(),
            lease: Arc::new(Alone),
            progress: Arc::new(Progress::default()),
        };
        // The manifest that was checked above is the one to restore by.
        let sought = Sought {
            recorded: Some(manifest),
            ..*sought
        };
        match in_this_process(&sought, manifest, target, args, &worker).await? {
            Ok(restored) => {
                return Ok(Outcome::Restored(Box::new(Done {
                    restored,
                    resource: manifest.resource_id.clone(),
                    consistent_at: manifest.consistent_at,
                    into: target.reference.clone(),
                })));
            }
            // Detected before the target was touched, so the next store can be tried.
            Err(error) if error.is_of_the_store() => {
                let fault = format!("{}: {}", store.url, error.report());
                output.note(&fault);
                faults.push(fault);
            }
            Err(error) => anyhow::bail!(told(&error)),
        }
    }
    Ok(Outcome::NotWhole(faults))
}

/// Refuses a suspect point without `--even-suspect`. With it, prints why the point is suspect.
fn refuse_suspect(manifest: &Manifest, args: &Args, output: &Output) -> anyhow::Result<()> {
    for suspicion in suspicions(manifest, Utc::now()) {
        let because = printable(&suspicion.because);
        anyhow::ensure!(
            args.even_suspect,
            "this restore point is suspect ({because}): take an older one, or restore from it all the same with --even-suspect"
        );
        output.note(&format!("SUSPECT: {because}"));
    }
    Ok(())
}

/// Refuses an unencrypted archive where archives are encrypted: anyone with write access to the store could put one there without a key.
async fn refuse_unencrypted(
    manifest: &Manifest,
    args: &Args,
    storage: &Storage,
) -> anyhow::Result<()> {
    if manifest.archive.encryption.is_some() || args.allow_unencrypted {
        return Ok(());
    }
    let expected = if args.identity.is_some() {
        Some("an identity was given to open it")
    } else if storage.has_encrypted_archives(&manifest.team).await? {
        Some("other archives of its team are")
    } else if !escrow::list(storage).await?.is_empty() {
        Some("this store holds archive keys")
    } else {
        None
    };
    if let Some(expected) = expected {
        anyhow::bail!(
            "this archive is not encrypted, although {expected}: anybody who can write to the store may have put it there; \
             if it was made before there were keys, restore it with --allow-unencrypted"
        );
    }
    Ok(())
}

impl Done {
    /// Prints what was restored. As JSON, it includes `chosen`: why it was this point.
    pub(super) fn show(&self, chosen: Option<Value>, output: &Output) -> anyhow::Result<()> {
        let mut report = serde_json::to_value(&self.restored)?;
        if let (Some(chosen), Some(report)) = (chosen, report.as_object_mut()) {
            report.insert("chosen".to_owned(), chosen);
        }
        output.show(&report, |_| {
            let restored = serde_json::to_value(&self.restored).unwrap_or_default();
            format!(
                "restored {} as of {} into {}\n  {restored}",
                self.resource,
                instant(self.consistent_at),
                self.into
            )
        })
    }
}

async fn in_this_process(
    sought: &Sought<'_>,
    manifest: &Manifest,
    target: &Target,
    args: &Args,
    worker: &Worker,
) -> anyhow::Result<Result<Restored, JobError>> {
    let job = Restore {
        point: manifest.run_id.0,
        target: RestoreTarget::Reference {
            reference: target.reference.to_string(),
        },
        no_owner: args.no_owner,
        no_acl: args.no_acl,
        as_superuser: args.as_superuser,
        no_tablespaces: args.no_tablespaces,
        break_replication: false,
        of_owner: false,
    };
    let resource = match described_by(manifest, &target.url) {
        Ok(resource) => resource,
        Err(error) => return Ok(Err(error)),
    };
    let attempt = Attempt {
        run: RunId(Uuid::new_v4()),
        epoch: Epoch(1),
        id: AttemptId(Uuid::new_v4()),
        created_at: Utc::now(),
    };
    let stop = stop_on_signal()?.drain;
    tokio::select! {
        restored = Box::pin(restore(attempt, &resource, &job, sought, Some(&resource.address), worker)) => Ok(restored),
        () = stop.cancelled() => {
            // What the restore began on the server is cleaned up there, if possible.
            drop(timeout(SETTLED_WITHIN, detached::settled()).await);
            anyhow::bail!("interrupted: the target does not hold the backup; make sure that it is empty, and restore again")
        }
    }
}

/// Returns what failed and what helps here. Advice that needs a catalog, such as swapping in a fresh database, is left out.
fn told(error: &JobError) -> String {
    if let JobError::Key(KeyError::Unknown { .. }) = error {
        return format!(
            "{}: give that identity, or the key's own, with --identity FILE",
            error.report()
        );
    }
    if let JobError::Postgres(PostgresError::DatabaseGone { database }) = error {
        return format!(
            "database {database:?} does not exist on its server: correct the name in its URL, or create it"
        );
    }
    if let JobError::Postgres(PostgresError::LockTableTooSmall {
        needed,
        room,
        setting,
    }) = error
    {
        return format!(
            "a restore in one transaction needs about {needed} locks, and the server's lock table has room for {room}: set \
             max_locks_per_transaction to {setting} or more and restart the server"
        );
    }
    error.report()
}

/// Returns the resource as its manifest describes it, at the address of the restore's target.
fn described_by(manifest: &Manifest, url: &SecretString) -> Result<Resource, JobError> {
    Ok(Resource {
        id: manifest.resource_id.clone(),
        team: manifest.team.clone(),
        tier: manifest.tier.clone(),
        engine: manifest.engine,
        address: Address::parse(manifest.engine, url)?,
        options: ResourceOptions::default(),
    })
}

/// The lease of a restore outside any queue. No one else can take it.
struct Alone;

impl Lease for Alone {
    fn is_alive(&self) -> BoxFuture<'_, bool> {
        std::future::ready(true).boxed()
    }
}
