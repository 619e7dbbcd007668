//! restore ∘ archive = identity; an archive that was changed on the way is refused.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    error::{Damage, JobError},
    format::{FormatError, Inspect},
    key::{ArchiveKey, Identity, KeyError, Keyring, NoKeys, OneKey},
    manifest::{Compression, Dump, Encryption, Scheme, Stored},
    storage::Storage,
    worker::Progress,
};

/// An inspector that accepts any bytes as a dump.
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
    keyring: Arc<dyn Keyring>,
    directory: tempfile::TempDir,
    stored: Stored,
    dump: Dump,
}

async fn archive(bytes: &[u8]) -> anyhow::Result<Archived> {
    archive_for(bytes, None).await
}

async fn encrypted(bytes: &[u8]) -> anyhow::Result<Archived> {
    archive_for(bytes, Some(Identity::generate())).await
}

/// Archives `bytes`, encrypted if there is an identity.
async fn archive_for(bytes: &[u8], identity: Option<Identity>) -> anyhow::Result<Archived> {
    let key = identity.as_ref().map(|identity| ArchiveKey {
        id: uuid::Uuid::from_u128(9),
        recipient: identity.recipient(),
    });
    let directory = tempfile::tempdir()?;
    let storage = Storage::open(&directory.path().to_str().unwrap_or_default().parse()?).await?;
    let upload = storage.upload(KEY);
    let progress = Arc::new(Progress::default());
    let mut first = 0;
    let (writer, count) = (upload.writer(), || first += 1);
    let sealed = seal(
        in_chunks(bytes),
        Anything,
        key.clone(),
        writer,
        progress.clone(),
        count,
    )
    .await;
    let sealed = sealed.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    upload.finish().await?.keep();
    assert_eq!(first, 1);
    assert_eq!(
        progress.so_far(),
        (sealed.dump.size_bytes, sealed.archive.size_bytes)
    );
    let stored = Stored {
        key: KEY.parse().unwrap(),
        size_bytes: sealed.archive.size_bytes,
        blake3: sealed.archive.blake3,
        compression: Compression::Zstd,
        encryption: key.map(|key| Encryption {
            scheme: Scheme::Age,
            key: key.id,
            recipient: key.recipient,
        }),
    };
    let dump = Dump {
        format: "anything".to_owned(),
        size_bytes: sealed.dump.size_bytes,
        blake3: sealed.dump.blake3,
    };
    let keyring: Arc<dyn Keyring> = match identity {
        Some(identity) => Arc::new(OneKey(identity)),
        None => Arc::new(NoKeys),
    };
    Ok(Archived {
        storage,
        keyring,
        directory,
        stored,
        dump,
    })
}

impl Archived {
    async fn read(&self) -> (Vec<u8>, Result<(), JobError>) {
        let mut reading = match open(&self.storage, &*self.keyring, &self.stored, &self.dump).await
        {
            Ok(reading) => reading,
            Err(error) => return (Vec::new(), Err(error)),
        };
        let mut bytes = Vec::new();
        while let Some(chunk) = reading.next().await {
            bytes.extend_from_slice(&chunk);
        }
        (bytes, reading.finish().await)
    }

    async fn verify(&self) -> Result<(), JobError> {
        verify(&self.storage, &*self.keyring, &self.stored, Anything).await
    }

    /// Changes the stored bytes and makes the manifest agree, as anybody with write access to the store could.
    fn forge(&mut self, change: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<()> {
        self.change(change)?;
        let bytes = std::fs::read(self.directory.path().join("objects").join(KEY))?;
        self.stored.size_bytes = bytes.len() as u64;
        self.stored.blake3 = blake3::hash(&bytes).to_hex().to_string();
        Ok(())
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

/// Every engine's dump passes through here, whether a tool or lastgood itself makes it.
#[tokio::test]
async fn a_dump_is_stopped_at_the_first_byte_that_is_too_many() -> anyhow::Result<()> {
    let bytes = dump_like(3 * CHUNK_BYTES);
    for (limit, is_taken) in [(bytes.len(), true), (bytes.len() - 1, false), (1, false)] {
        let directory = tempfile::tempdir()?;
        let url = directory.path().to_str().unwrap_or_default().parse()?;
        let upload = Storage::open(&url).await?.upload(KEY);
        let progress = Arc::new(Progress::default());
        progress.limit_dump(std::num::NonZeroU64::new(limit as u64));
        let dump = in_chunks(bytes.as_slice());
        let sealed = seal(dump, Anything, None, upload.writer(), progress, || {}).await;
        upload.abort().await;
        let limit_bytes = limit as u64;
        match sealed {
            Ok(_) => assert!(is_taken, "{limit}"),
            Err(SealError::TooLarge { limit_bytes: told }) => {
                assert_eq!((is_taken, told), (false, limit_bytes));
            }
            Err(error) => anyhow::bail!("{error:?}"),
        }
    }
    Ok(())
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

#[tokio::test]
async fn what_is_encrypted_is_zstd_in_plain_age() -> anyhow::Result<()> {
    let bytes = dump_like(3_000_000);
    let identity = Identity::generate();
    let it = archive_for(&bytes, Some(identity.clone())).await?;
    let object = std::fs::read(it.directory.path().join("objects").join(KEY))?;
    assert_eq!(it.stored.blake3, blake3::hash(&object).to_hex().to_string());
    let compressed = age::decrypt(identity.as_age(), &object)?;
    assert_eq!(zstd::decode_all(&compressed[..])?, bytes);
    assert_eq!(it.read().await.0, bytes);
    it.verify().await?;
    let opened = opens(&it.storage, &it.stored, &*it.keyring).await?;
    assert_eq!(opened, Some(uuid::Uuid::from_u128(9)));
    Ok(())
}

#[tokio::test]
async fn a_damaged_encrypted_archive_never_gives_its_last_chunk() -> anyhow::Result<()> {
    let bytes = dump_like(5_000_000);
    let it = encrypted(&bytes).await?;
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
async fn without_its_key_an_archive_says_which_one_it_needs() -> anyhow::Result<()> {
    let mut it = encrypted(b"dump").await?;
    it.keyring = Arc::new(NoKeys);
    let error = it.read().await.1.unwrap_err();
    assert!(matches!(error, JobError::Key(KeyError::Unknown { .. })));
    let id = uuid::Uuid::from_u128(9).to_string();
    assert!(error.report().contains(&id), "{}", error.report());

    it.keyring = Arc::new(OneKey(Identity::generate()));
    let error = it.verify().await.unwrap_err();
    assert!(matches!(error, JobError::Key(KeyError::Other { .. })));
    assert!(error.report().contains(&id), "{}", error.report());
    assert!(error.is_permanent());
    Ok(())
}

#[tokio::test]
async fn an_archive_that_is_not_what_its_manifest_says_is_refused() -> anyhow::Result<()> {
    let refusal = async |it: &Archived| {
        let read = it.read().await.1.unwrap_err().report();
        assert_eq!(it.verify().await.unwrap_err().report(), read);
        read
    };
    let mut it = encrypted(b"dump").await?;
    let encryption = it.stored.encryption.take();
    assert!(
        refusal(&it)
            .await
            .contains("it is encrypted, but its manifest")
    );

    let mut it = archive(b"dump").await?;
    it.stored.encryption.clone_from(&encryption);
    let owner = Identity::generate();
    if let Some(encryption) = &mut it.stored.encryption {
        encryption.recipient = owner.recipient();
    }
    it.keyring = Arc::new(OneKey(owner.clone()));
    assert!(
        refusal(&it)
            .await
            .contains("it is not encrypted, but its manifest")
    );

    let mut it = encrypted(b"dump").await?;
    if let Some(encryption) = &mut it.stored.encryption {
        encryption.recipient = owner.recipient();
    }
    it.keyring = Arc::new(OneKey(owner));
    assert!(
        refusal(&it)
            .await
            .contains("the key that its manifest names")
    );
    assert!(opens(&it.storage, &it.stored, &*it.keyring).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_header_without_an_end_does_not_fill_memory() -> anyhow::Result<()> {
    let mut it = encrypted(b"dump").await?;
    it.forge(|stored| {
        let stanza = b"age-encryption.org/v1\n-> X25519 ";
        *stored = [&stanza[..], &vec![b'a'; 3_000_000]].concat();
    })?;
    let report = it.read().await.1.unwrap_err().report();
    assert!(
        report.contains("its header is not an age header"),
        "{report}"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn restore_after_archive_is_identity(
        bytes in prop::collection::vec(any::<u8>(), 0..5000),
        repeat in 1_usize..400,
        is_encrypted in any::<bool>(),
    ) {
        let bytes = bytes.repeat(repeat);
        let identity = is_encrypted.then(Identity::generate);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (read, result) =
            runtime.block_on(async { archive_for(&bytes, identity).await.unwrap().read().await });
        prop_assert!(result.is_ok());
        prop_assert!(read == bytes);
    }

    #[test]
    fn a_flipped_bit_is_refused(
        bytes in prop::collection::vec(any::<u8>(), 1..5000),
        at in any::<prop::sample::Index>(),
        bit in 0_u32..8,
        is_encrypted in any::<bool>(),
    ) {
        let identity = is_encrypted.then(Identity::generate);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let results = runtime.block_on(async {
            let it = archive_for(&bytes, identity).await.unwrap();
            it.change(|stored| {
                let at = at.index(stored.len());
                stored[at] ^= 1 << bit;
            }).unwrap();
            [it.read().await.1, it.verify().await]
        });
        for result in results {
            let is_refused = matches!(result, Err(JobError::Damaged { .. }));
            prop_assert!(is_refused);
        }
    }

    /// age alone detects the change, even where the manifest's size and hash match the altered bytes.
    #[test]
    fn an_encrypted_archive_that_was_cut_or_altered_is_refused_whatever_its_manifest_says(
        bytes in prop::collection::vec(any::<u8>(), 1..200_000),
        at in any::<prop::sample::Index>(),
        bit in prop::option::of(0_u32..8),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (size, results) = runtime.block_on(async {
            let mut it = encrypted(&bytes).await.unwrap();
            it.forge(|stored| {
                let at = at.index(stored.len());
                match bit {
                    Some(bit) => stored[at] ^= 1 << bit,
                    None => stored.truncate(at),
                }
            }).unwrap();
            let (read, result) = it.read().await;
            (read.len(), [result, it.verify().await])
        });
        prop_assert!(size < bytes.len());
        for result in results {
            let is_refused = matches!(
                result,
                Err(JobError::Damaged { source: Damage::Encryption(_), .. })
            );
            prop_assert!(is_refused, "{:?}", result);
        }
    }
}
