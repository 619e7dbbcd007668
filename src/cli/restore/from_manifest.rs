//! `lastgood restore --from-manifest KEY`: with no catalog and no queue, from the store alone, in this process.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use chrono::Utc;
use futures::{FutureExt as _, future::BoxFuture};
use lastgood_jobs::{
    detached,
    error::JobError,
    escrow,
    job::{Attempt, Restore, RestoreTarget},
    key::{Identity, KeyError, Keyring, NoKeys, Recipient},
    manifest::Manifest,
    resource::{Resource, ResourceOptions},
    restore::{Restored, restore},
    sought::Sought,
    storage::Storage,
    worker::{Lease, Progress, Worker},
};
use secrecy::SecretString;
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    super::{
        consumer::default_work_dir,
        locate::{fault, locate},
        output::{Output, instant, printable},
        stop_on_signal,
    },
    Args,
};
use crate::{
    consumer::WorkDir,
    secret::{Reference, SecretError, read_secret_file},
    stores::{Absent, Stores},
};

/// How long what was interrupted may clear up behind itself.
const SETTLED_WITHIN: Duration = Duration::from_secs(4);

/// Restores the point into the empty target that `--into` refers to.
pub(super) async fn run(key: &str, args: &Args, output: &Output) -> anyhow::Result<ExitCode> {
    let reference = target(args)?;
    let url = resolve(&reference).await?;
    let stores = Stores::open(&args.storage, &Absent::LeftOut).await?;
    let sought = Sought::at(key);
    let stores = locate(&sought, &stores).await?;
    let private = WorkDir::create(&args.work_dir.clone().unwrap_or_else(default_work_dir))?;
    let tools = Arc::new(args.tools.discover().await);
    let mut faults = Vec::new();
    for (store, manifest) in &stores {
        let at = instant(manifest.consistent_at);
        output.note(&format!(
            "restoring {} ({}) as of {at} from {}",
            manifest.resource_id, manifest.engine, store.url
        ));
        suspicions(manifest, args, output)?;
        unencrypted(manifest, args, &store.storage).await?;
        let worker = Worker {
            encrypt_to: None,
            keyring: keyring(args.identity.as_deref(), &store.storage)?,
            storage: store.storage.clone(),
            tools: Arc::clone(&tools),
            work_dir: private.path().to_owned(),
            lease: Arc::new(Alone),
            progress: Arc::new(Progress::default()),
        };
        match in_this_process(&sought, manifest, &reference, url.clone(), args, &worker).await? {
            Ok(restored) => return show(&restored, manifest, &reference, output),
            // Found before the target was touched.
            Err(error) if error.is_of_the_store() => {
                output.note(&fault(store, &error));
                faults.push(fault(store, &error));
            }
            Err(error) => anyhow::bail!(error.report()),
        }
    }
    anyhow::bail!(faults.join("; "))
}

/// Refuses a suspect point without the word, and says what speaks against one that is restored from all the same.
fn suspicions(manifest: &Manifest, args: &Args, output: &Output) -> anyhow::Result<()> {
    for suspicion in &manifest.suspicions {
        let because = printable(&suspicion.because);
        anyhow::ensure!(
            args.even_suspect,
            "this restore point is suspect ({because}): take an older one, or restore from it all the same with --even-suspect"
        );
        output.note(&format!("SUSPECT: {because}"));
    }
    Ok(())
}

/// Refuses an archive in clear where archives are encrypted: whoever can write to the store, and has no key, can put one there.
async fn unencrypted(manifest: &Manifest, args: &Args, storage: &Storage) -> anyhow::Result<()> {
    if manifest.archive.encryption.is_some() || args.allow_unencrypted {
        return Ok(());
    }
    let expected = if args.identity.is_some() {
        Some("an identity was given to open it")
    } else if storage.has_encrypted_archives(&manifest.team).await? {
        Some("other archives of its team are")
    } else if !escrow::list(storage).await?.is_empty() {
        Some("this store holds the keys of archives")
    } else {
        None
    };
    if let Some(expected) = expected {
        anyhow::bail!(
            "this archive is not encrypted, although {expected}: anybody who can write to the store may have put it there; \
             if it is of before there were keys, restore it with --allow-unencrypted"
        );
    }
    Ok(())
}

fn show(
    restored: &Restored,
    manifest: &Manifest,
    reference: &Reference,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    output.show(restored, |restored| {
        let report = serde_json::to_value(restored).unwrap_or_default();
        format!(
            "restored {} as of {} into {reference}\n  {report}",
            manifest.resource_id,
            instant(manifest.consistent_at)
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn in_this_process(
    sought: &Sought<'_>,
    manifest: &Manifest,
    reference: &Reference,
    url: SecretString,
    args: &Args,
    worker: &Worker,
) -> anyhow::Result<Result<Restored, JobError>> {
    let job = Restore {
        point: manifest.run_id,
        target: RestoreTarget::Reference {
            reference: reference.to_string(),
        },
        no_owner: args.no_owner,
        no_acl: args.no_acl,
        as_superuser: args.as_superuser,
        no_tablespaces: args.no_tablespaces,
        break_replication: false,
        of_owner: false,
    };
    let resource = described_by(manifest, url.clone());
    let attempt = Attempt {
        run_id: Uuid::new_v4(),
        epoch: 1,
        attempt_id: Uuid::new_v4(),
        created_at: Utc::now(),
    };
    let stop = stop_on_signal()?.drain;
    tokio::select! {
        restored = Box::pin(restore(attempt, &resource, &job, sought, Some(url), worker)) => Ok(restored),
        () = stop.cancelled() => {
            // What was begun on the server is cleared up there, if it can be.
            drop(timeout(SETTLED_WITHIN, detached::settled()).await);
            anyhow::bail!("interrupted: the target does not hold the backup; see that it is empty, and restore once more")
        }
    }
}

async fn resolve(reference: &Reference) -> anyhow::Result<SecretString> {
    reference.resolve().await.map_err(|error| {
        // Its own text speaks of consumers, and there is none here.
        if let SecretError::NoSuchVariable(name) = error {
            return anyhow::anyhow!("environment variable {name} is not set here");
        }
        error.into()
    })
}

fn target(args: &Args) -> anyhow::Result<Reference> {
    let into = args
        .into
        .as_deref()
        .context("say where to: --into env:NAME or file:/path of the URL of an empty database")?;
    into.parse::<Reference>().map_err(|error| {
        if let SecretError::UrlInArgv = error {
            return error.into();
        }
        anyhow::anyhow!(
            "without a catalog nobody knows the resource's server: give --into env:NAME or file:/path of the URL of an empty \
             database"
        )
    })
}

/// The resource as its manifest knows it, reached where the restore goes.
fn described_by(manifest: &Manifest, url: SecretString) -> Resource {
    Resource {
        id: manifest.resource_id.clone(),
        team: manifest.team.clone(),
        tier: manifest.tier.clone(),
        engine: manifest.engine,
        url,
        options: ResourceOptions::default(),
    }
}

/// Returns who opens archives here: the identity in a file, or, if it is the recovery identity, what the escrows in the
/// store hold for it.
fn keyring(file: Option<&Path>, storage: &Storage) -> anyhow::Result<Arc<dyn Keyring>> {
    let Some(file) = file else {
        return Ok(Arc::new(NoKeys));
    };
    let text = read_secret_file(&file.to_string_lossy())?;
    let identity = Identity::parse(&text).with_context(|| file.display().to_string())?;
    Ok(Arc::new(OfFile {
        identity,
        storage: storage.clone(),
    }))
}

/// Knows the identity in a file, and those in the escrows that it opens.
struct OfFile {
    identity: Identity,
    storage: Storage,
}

impl OfFile {
    async fn find(&self, key: Uuid, recipient: &Recipient) -> Result<Identity, KeyError> {
        if self.identity.recipient() == *recipient {
            return Ok(self.identity.clone());
        }
        let escrow = escrow::open(&self.storage, key, &self.identity).await;
        escrow
            .map(|it| it.identity)
            .map_err(|error| KeyError::Unavailable {
                key,
                why: format!(
                    "the identity at hand is that of {}, and the key's escrow does not help: {}",
                    self.identity.recipient(),
                    error.report()
                ),
            })
    }
}

impl Keyring for OfFile {
    fn identity<'a>(
        &'a self,
        key: Uuid,
        recipient: &'a Recipient,
    ) -> BoxFuture<'a, Result<Identity, KeyError>> {
        self.find(key, recipient).boxed()
    }
}

/// The lease of a restore that no queue knows: nobody else can have it.
struct Alone;

impl Lease for Alone {
    fn is_alive(&self) -> BoxFuture<'_, bool> {
        std::future::ready(true).boxed()
    }
}
