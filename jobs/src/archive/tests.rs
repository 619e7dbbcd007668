//! restore ∘ archive = identity; what was changed on the way is refused.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    error::JobError,
    manifest::{Dump, Stored},
    storage::Storage,
    worker::Progress,
};

/// Takes any bytes for a dump.
#[derive(Debug)]
struct Anything;

impl Inspect for Anything {
    type Contents = ();

    fn inspect(&mut self, _bytes: &[u8]) -> Result<(), FormatError> {
        Ok(())
    }

    fn finish(self) -> Result<(), FormatError> {
        Ok(())
    }
}

const KEY: &str = "v1/archive";

struct Archived {
    storage: Storage,
    directory: tempfile::TempDir,
    stored: Stored,
    dump: Dump,
}

async fn archive(bytes: &[u8]) -> anyhow::Result<Archived> {
    let directory = tempfile::tempdir()?;
    let storage = Storage::open(&directory.path().to_str().unwrap_or_default().parse()?).await?;
    let upload = storage.upload(KEY);
    let progress = Arc::new(Progress::default());
    let mut first = 0;
    let sealed = seal(bytes, Anything, upload.writer(), progress.clone(), || {
        first += 1;
    })
    .await;
    let sealed = sealed.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    upload.finish().await?.keep();
    assert_eq!(first, 1);
    assert_eq!(
        progress.so_far(),
        (sealed.dump.size_bytes, sealed.archive.size_bytes)
    );
    let stored = Stored {
        key: KEY.to_owned(),
        size_bytes: sealed.archive.size_bytes,
        blake3: sealed.archive.blake3,
        compression: COMPRESSION.to_owned(),
    };
    let dump = Dump {
        format: "anything".to_owned(),
        size_bytes: sealed.dump.size_bytes,
        blake3: sealed.dump.blake3,
    };
    Ok(Archived {
        storage,
        directory,
        stored,
        dump,
    })
}

impl Archived {
    async fn read(&self) -> (Vec<u8>, Result<(), JobError>) {
        let mut reading = match open(&self.storage, &self.stored, &self.dump).await {
            Ok(reading) => reading,
            Err(error) => return (Vec::new(), Err(error)),
        };
        let mut bytes = Vec::new();
        while let Some(chunk) = reading.next().await {
            bytes.extend_from_slice(&chunk);
        }
        (bytes, reading.finish().await)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<()> {
        let path = self.directory.path().join("objects").join(KEY);
        let mut bytes = std::fs::read(&path)?;
        change(&mut bytes);
        Ok(std::fs::write(path, bytes)?)
    }
}

fn dump_like(size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 40);
    let mut seed = 1_u64;
    while bytes.len() < size {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(format!("{}\tname {}\n", seed, seed % 97).as_bytes());
    }
    bytes
}

#[tokio::test]
async fn what_is_stored_is_plain_zstd_and_its_hashes_are_plain_blake3() -> anyhow::Result<()> {
    let bytes = dump_like(3_000_000);
    let it = archive(&bytes).await?;
    let object = std::fs::read(it.directory.path().join("objects").join(KEY))?;
    assert_eq!(it.stored.blake3, blake3::hash(&object).to_hex().to_string());
    assert_eq!(it.dump.blake3, blake3::hash(&bytes).to_hex().to_string());
    assert_eq!(zstd::decode_all(&object[..])?, bytes);
    Ok(())
}

#[tokio::test]
async fn a_damaged_archive_never_gives_its_last_chunk() -> anyhow::Result<()> {
    let bytes = dump_like(5_000_000);
    let it = archive(&bytes).await?;
    it.change(|stored| {
        let last = stored.len() - 2;
        stored[last] ^= 1;
    })?;
    let (read, result) = it.read().await;
    assert!(matches!(result, Err(JobError::Damaged { .. })));
    assert!(read.len() < bytes.len());
    Ok(())
}

#[tokio::test]
async fn a_cut_or_missing_archive_is_said_to_be_so() -> anyhow::Result<()> {
    let it = archive(b"dump").await?;
    it.change(|stored| stored.truncate(5))?;
    let report = it.read().await.1.unwrap_err().report();
    assert!(report.contains("the archive has 5 bytes"), "{report}");
    it.storage.remove(KEY).await?;
    let report = it.read().await.1.unwrap_err().report();
    assert!(report.contains("missing from the store"), "{report}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn restore_after_archive_is_identity(
        bytes in prop::collection::vec(any::<u8>(), 0..5000),
        repeat in 1_usize..400,
    ) {
        let bytes = bytes.repeat(repeat);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (read, result) = runtime.block_on(async { archive(&bytes).await.unwrap().read().await });
        prop_assert!(result.is_ok());
        prop_assert!(read == bytes);
    }

    #[test]
    fn a_flipped_bit_is_refused(
        bytes in prop::collection::vec(any::<u8>(), 1..5000),
        at in any::<prop::sample::Index>(),
        bit in 0_u32..8,
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let result = runtime.block_on(async {
            let it = archive(&bytes).await.unwrap();
            it.change(|stored| {
                let at = at.index(stored.len());
                stored[at] ^= 1 << bit;
            }).unwrap();
            it.read().await.1
        });
        let is_refused = matches!(result, Err(JobError::Damaged { .. }));
        prop_assert!(is_refused);
    }
}
