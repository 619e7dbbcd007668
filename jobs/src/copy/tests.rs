//! A copy is whole or absent, even if another copier runs, dies or wakes up beside it.

use std::{
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::future::BoxFuture;

use super::*;
use crate::{
    clients::Toolbox,
    detached,
    key::NoKeys,
    manifest::tests::example,
    worker::{Lease, Progress},
};

const KEY: &str = "v1/acme/db-1/2026/03/04/050607Z-x.manifest.json";
const ARCHIVE: &[u8] = b"what the archive holds";

type Answer = Box<dyn Fn(usize) -> BoxFuture<'static, bool> + Send + Sync>;

/// A lease whose answers come from the test, by the number of the question from 0. The answer may also make something
/// happen at that moment.
struct Asked {
    answer: Answer,
    times: AtomicUsize,
}

impl Lease for Asked {
    fn is_alive(&self) -> BoxFuture<'_, bool> {
        (self.answer)(self.times.fetch_add(1, Ordering::SeqCst))
    }
}

/// Two stores; `from` has a restore point.
struct Lab {
    directories: [tempfile::TempDir; 2],
    from: Storage,
    to: Storage,
    manifest: Manifest,
}

impl Lab {
    async fn new() -> anyhow::Result<Self> {
        let directories = [tempfile::tempdir()?, tempfile::tempdir()?];
        let open = async |at: &tempfile::TempDir| {
            let url = at.path().to_str().unwrap_or_default().parse()?;
            anyhow::Ok(Storage::open(&url).await?)
        };
        let [from, to] = &directories;
        let (from, to) = (open(from).await?, open(to).await?);
        let mut manifest = example();
        manifest.archive.size_bytes = ARCHIVE.len() as u64;
        manifest.archive.blake3 = blake3::hash(ARCHIVE).to_hex().to_string();
        let lab = Self {
            directories,
            from,
            to,
            manifest,
        };
        lab.write(0, ARCHIVE)?;
        lab.from.create_manifest(KEY, &lab.manifest).await?;
        Ok(lab)
    }

    fn archive(&self, store: usize) -> std::path::PathBuf {
        let root = self.directories[store].path().join("objects");
        root.join(&self.manifest.archive.key)
    }

    fn write(&self, store: usize, archive: &[u8]) -> anyhow::Result<()> {
        let path = self.archive(store);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        Ok(fs::write(path, archive)?)
    }

    fn worker(
        &self,
        answer: impl Fn(usize) -> BoxFuture<'static, bool> + Send + Sync + 'static,
    ) -> Worker {
        Worker {
            storage: self.to.clone(),
            tools: Arc::new(Toolbox::default()),
            work_dir: self.directories[1].path().to_owned(),
            encrypt_to: None,
            keyring: Arc::new(NoKeys),
            lease: Arc::new(Asked {
                answer: Box::new(answer),
                times: AtomicUsize::new(0),
            }),
            progress: Arc::<Progress>::default(),
        }
    }

    fn alive(&self) -> Worker {
        self.worker(|_| Box::pin(std::future::ready(true)))
    }

    async fn copy(&self, worker: &Worker) -> Result<Copied, JobError> {
        let sought = Sought {
            manifest_key: KEY,
            recorded: Some(&self.manifest),
        };
        copy(&sought, &self.from, worker).await
    }

    /// Checks that the second store has the restore point, whole, and nothing else.
    async fn is_copied(&self) -> anyhow::Result<()> {
        assert_eq!(fs::read(self.archive(1))?, ARCHIVE);
        assert_eq!(self.to.manifest(KEY).await?.as_ref(), Some(&self.manifest));
        let partial = self.directories[1].path().join("partial");
        assert_eq!(fs::read_dir(partial)?.count(), 0);
        Ok(())
    }
}

#[tokio::test]
async fn a_point_is_copied_once_and_known_the_second_time() -> anyhow::Result<()> {
    let lab = Lab::new().await?;
    assert_eq!(lab.copy(&lab.alive()).await?, Copied::New);
    lab.is_copied().await?;
    assert_eq!(lab.copy(&lab.alive()).await?, Copied::AlreadyThere);
    Ok(())
}

#[tokio::test]
async fn a_stale_copier_takes_nothing_away_from_the_one_that_took_over() -> anyhow::Result<()> {
    let lab = Arc::new(Lab::new().await?);
    let theirs = Arc::clone(&lab);
    // By the second question its archive is stored; the other copier finds it whole and writes the manifest.
    let stale = lab.worker(move |asked| {
        let lab = Arc::clone(&theirs);
        Box::pin(async move {
            if asked > 0 {
                assert_eq!(lab.copy(&lab.alive()).await.ok(), Some(Copied::New));
            }
            asked == 0
        })
    });
    let lost = lab.copy(&stale).await;
    assert!(matches!(lost, Err(JobError::LeaseLost)), "{lost:?}");
    detached::settled().await;
    lab.is_copied().await
}

#[tokio::test]
async fn a_copier_that_wakes_before_its_first_byte_takes_nothing_away() -> anyhow::Result<()> {
    let lab = Arc::new(Lab::new().await?);
    // A damaged archive, which the copy has to overwrite.
    lab.write(1, b"what the archive hides")?;
    let theirs = Arc::clone(&lab);
    let stale = lab.worker(move |_| {
        let lab = Arc::clone(&theirs);
        Box::pin(async move {
            assert_eq!(lab.copy(&lab.alive()).await.ok(), Some(Copied::New));
            false
        })
    });
    let lost = lab.copy(&stale).await;
    assert!(matches!(lost, Err(JobError::LeaseLost)), "{lost:?}");
    lab.is_copied().await
}

#[tokio::test]
async fn a_copier_that_is_stopped_leaves_what_another_may_have_described() -> anyhow::Result<()> {
    let lab = Arc::new(Lab::new().await?);
    let (reached, is_reached) = tokio::sync::oneshot::channel::<()>();
    let reached = Mutex::new(Some(reached));
    let stopped = lab.worker(move |asked| {
        if asked == 0 {
            return Box::pin(std::future::ready(true));
        }
        let reached = reached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        Box::pin(async move {
            drop(reached);
            std::future::pending().await
        })
    });
    let theirs = Arc::clone(&lab);
    let copying = tokio::spawn(async move { theirs.copy(&stopped).await });
    let _reached = is_reached.await;
    assert_eq!(lab.copy(&lab.alive()).await?, Copied::New);
    copying.abort();
    assert!(copying.await.is_err());
    detached::settled().await;
    lab.is_copied().await
}

#[tokio::test]
async fn an_archive_that_the_janitor_takes_at_the_last_moment_is_written_again()
-> anyhow::Result<()> {
    let lab = Lab::new().await?;
    // An old orphan, whole.
    lab.write(1, ARCHIVE)?;
    let archive = lab.archive(1);
    let worker = lab.worker(move |asked| {
        if asked == 0 {
            fs::remove_file(&archive).unwrap();
        }
        Box::pin(std::future::ready(true))
    });
    assert_eq!(lab.copy(&worker).await?, Copied::New);
    lab.is_copied().await
}

#[tokio::test]
async fn what_is_damaged_in_the_mirror_is_replaced_and_what_is_damaged_at_its_source_is_not_copied()
-> anyhow::Result<()> {
    let lab = Lab::new().await?;
    lab.write(1, b"what the archive hides")?;
    assert_eq!(lab.copy(&lab.alive()).await?, Copied::New);
    lab.is_copied().await?;

    lab.write(0, b"what the archive hides")?;
    lab.write(1, b"cut")?;
    let refused = lab.copy(&lab.alive()).await;
    assert!(
        matches!(refused, Err(JobError::Damaged { .. })),
        "{refused:?}"
    );
    assert_eq!(fs::read(lab.archive(1))?, b"cut");
    Ok(())
}

#[tokio::test]
async fn a_manifest_that_is_not_the_recorded_one_is_neither_copied_nor_written_over()
-> anyhow::Result<()> {
    let lab = Lab::new().await?;
    let mut other = lab.manifest.clone();
    other.epoch.0 += 1;
    lab.to.create_manifest(KEY, &other).await?;
    let refused = lab.copy(&lab.alive()).await.unwrap_err().report();
    assert!(
        refused.contains("another manifest is there already"),
        "{refused}"
    );
    assert_eq!(lab.to.manifest(KEY).await?.as_ref(), Some(&other));

    lab.to.remove(KEY).await?;
    lab.from.remove(KEY).await?;
    lab.from.create_manifest(KEY, &other).await?;
    let refused = lab.copy(&lab.alive()).await.unwrap_err().report();
    assert!(
        refused.contains("differs from the one that was recorded"),
        "{refused}"
    );
    assert_eq!(lab.to.manifest(KEY).await?, None);
    Ok(())
}
