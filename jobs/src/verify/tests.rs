//! A whole restore point passes; one that lost or changed a byte anywhere, or whose dump is not a dump, is found.

use std::{fs, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::{
    clients::Toolbox,
    key::NoKeys,
    manifest::{Dump, Stored, tests::example},
    storage::Storage,
    worker::Lease,
};

const DUMP: &[u8] = include_bytes!("../format/rdb/golden/valkey-9.1.rdb");
const KEY: &str = "v1/acme/db-1/2026/03/04/050607Z-x.manifest.json";

struct Always;

impl Lease for Always {
    fn is_alive(&self) -> futures::future::BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }
}

/// A store with one restore point.
struct Lab {
    directory: tempfile::TempDir,
    worker: Worker,
    manifest: Manifest,
}

impl Lab {
    /// Stores `dump` with a manifest that is correct in every field.
    async fn with(dump: &[u8]) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let storage =
            Storage::open(&directory.path().to_str().unwrap_or_default().parse()?).await?;
        let archive = zstd::encode_all(dump, 1)?;
        let blake3 = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        let manifest = Manifest {
            engine: Engine::Redis,
            archive: Stored {
                size_bytes: archive.len() as u64,
                blake3: blake3(&archive),
                ..example().archive
            },
            dump: Dump {
                format: "RDB".to_owned(),
                size_bytes: dump.len() as u64,
                blake3: blake3(dump),
            },
            ..example()
        };
        let lab = Self {
            worker: Worker {
                storage,
                tools: Arc::new(Toolbox::default()),
                work_dir: directory.path().to_owned(),
                encrypt_to: None,
                keyring: Arc::new(NoKeys),
                lease: Arc::new(Always),
                progress: Arc::default(),
            },
            directory,
            manifest,
        };
        lab.store(&archive)?;
        lab.describe(&lab.manifest).await?;
        Ok(lab)
    }

    fn store(&self, archive: &[u8]) -> anyhow::Result<()> {
        let path = self.path(&self.manifest.archive.key);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        Ok(fs::write(path, archive)?)
    }

    fn path(&self, key: &str) -> std::path::PathBuf {
        self.directory.path().join("objects").join(key)
    }

    async fn describe(&self, manifest: &Manifest) -> anyhow::Result<()> {
        self.worker.storage.remove(KEY).await?;
        let created = self.worker.storage.create_manifest(KEY, manifest).await;
        created
            .map(drop)
            .map_err(|error| anyhow::anyhow!(error.report()))
    }

    async fn verify(&self) -> Result<Verified, JobError> {
        let sought = Sought::at(KEY);
        verify(&sought, &self.worker).await
    }

    /// Returns the report on a restore point that must be found damaged.
    async fn damage(&self) -> String {
        match self.verify().await {
            Err(error @ JobError::Damaged { .. }) => error.report(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_whole_is_whole_and_is_counted() -> anyhow::Result<()> {
    let lab = Lab::with(DUMP).await?;
    assert_eq!(lab.verify().await?.manifest, lab.manifest);
    assert_eq!(lab.worker.progress.so_far().0, DUMP.len() as u64);
    Ok(())
}

#[tokio::test]
async fn a_dump_that_is_not_whole_is_found_although_every_hash_is_right() -> anyhow::Result<()> {
    let lab = Lab::with(&DUMP[..DUMP.len() - 9]).await?;
    let told = lab.damage().await;
    assert!(told.contains("the dump in it is not whole"), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_dump_that_is_not_the_manifests_is_found_although_the_archive_is() -> anyhow::Result<()> {
    let lab = Lab::with(DUMP).await?;
    let mut other = lab.manifest.clone();
    other.dump.blake3 = blake3::hash(b"another").to_hex().to_string();
    lab.describe(&other).await?;
    let told = lab.damage().await;
    assert!(told.contains("the BLAKE3 of the dump in it"), "{told}");
    let mut other = lab.manifest.clone();
    other.dump.size_bytes += 1;
    lab.describe(&other).await?;
    let told = lab.damage().await;
    assert!(told.contains("the dump in it has"), "{told}");
    Ok(())
}

/// Returns a frame that zstd skips: bytes in the archive that are not part of the dump.
fn skipped(bytes: [u8; 4]) -> Vec<u8> {
    [0x184D_2A50_u32.to_le_bytes(), 4_u32.to_le_bytes(), bytes].concat()
}

#[tokio::test]
async fn the_archives_hash_alone_finds_what_everything_else_takes_for_whole() -> anyhow::Result<()>
{
    let lab = Lab::with(DUMP).await?;
    let frame = zstd::encode_all(DUMP, 1)?;
    let archive = |tail: &[u8; 4]| [frame.clone(), skipped(*tail)].concat();
    let mut described = lab.manifest.clone();
    described.archive.size_bytes = archive(b"ours").len() as u64;
    described.archive.blake3 = blake3::hash(&archive(b"ours")).to_hex().to_string();
    lab.describe(&described).await?;
    lab.store(&archive(b"ours"))?;
    assert_eq!(lab.verify().await?.manifest, described);
    // The same length, and the same dump to its last byte.
    lab.store(&archive(b"his!"))?;
    let told = lab.damage().await;
    assert!(told.contains("the BLAKE3 of the archive"), "{told}");
    Ok(())
}

#[tokio::test]
async fn more_than_the_manifest_says_is_not_read_on_for_ever() -> anyhow::Result<()> {
    let lab = Lab::with(DUMP).await?;
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(0), 1 << 30), 1)?;
    lab.store(&bomb)?;
    let mut other = lab.manifest.clone();
    other.archive.size_bytes = bomb.len() as u64;
    other.archive.blake3 = blake3::hash(&bomb).to_hex().to_string();
    lab.describe(&other).await?;
    lab.damage().await;
    assert!(lab.worker.progress.so_far().0 < 64 << 20);
    Ok(())
}

#[tokio::test]
async fn what_is_gone_is_told_apart() -> anyhow::Result<()> {
    let lab = Lab::with(DUMP).await?;
    fs::remove_file(lab.path(&lab.manifest.archive.key))?;
    assert!(lab.damage().await.contains("it is missing from the store"));
    fs::remove_file(lab.path(KEY))?;
    let told = lab.verify().await;
    assert!(
        matches!(told, Err(JobError::NoSuchPoint { .. })),
        "{told:?}"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_byte_that_changed_or_went_anywhere_in_the_archive_is_found(
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
        is_cut in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let lab = Lab::with(DUMP).await?;
            let mut archive = fs::read(lab.path(&lab.manifest.archive.key))?;
            let at = at.index(archive.len());
            if is_cut {
                archive.truncate(at);
            } else {
                archive[at] ^= 1 << bit;
            }
            lab.store(&archive)?;
            lab.damage().await;
            anyhow::Ok(())
        })
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    }
}
