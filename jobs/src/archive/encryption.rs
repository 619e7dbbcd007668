//! The age layer between zstd and the store: added, removed, or known to be absent.

use std::{
    cell::Cell,
    io::{self, Read, Write},
    rc::Rc,
};

use age::{
    DecryptError, Decryptor, Encryptor,
    stream::{StreamReader, StreamWriter},
};

use crate::{
    error::Damage,
    key::{ArchiveKey, Identity},
};

/// The first bytes of an age file.
pub(super) const AGE_MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// The first bytes of a zstd frame.
pub(super) const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// More than any header for one recipient needs.
const HEADER_BYTES_MAX: u64 = 16 * 1024;

/// Compressed bytes on their way to the store: encrypted if there is a key.
pub(super) enum Wrapping<W: Write> {
    None(W),
    Age(Box<StreamWriter<W>>),
}

impl<W: Write> Wrapping<W> {
    /// Begins the layer by writing its header.
    pub(super) fn begin(sink: W, key: Option<&ArchiveKey>) -> io::Result<Self> {
        let Some(key) = key else {
            return Ok(Self::None(sink));
        };
        let recipient: &dyn age::Recipient = key.recipient.as_age();
        let encryptor = Encryptor::with_recipients(std::iter::once(recipient))
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self::Age(Box::new(encryptor.wrap_output(sink)?)))
    }

    /// Writes the last chunk. An archive without it is refused as truncated.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::None(sink) => Ok(sink),
            Self::Age(stream) => stream.finish(),
        }
    }
}

impl<W: Write> Write for Wrapping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(sink) => sink.write(bytes),
            Self::Age(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(sink) => sink.flush(),
            Self::Age(stream) => stream.flush(),
        }
    }
}

/// Stored bytes on their way back: decrypted if their manifest says so.
pub(super) enum Unwrapping<R: Read> {
    None(R),
    Age(Box<StreamReader<Limited<R>>>),
}

impl<R: Read> Unwrapping<R> {
    /// Removes the header. `head` is the beginning of the stored bytes; it must match what the manifest says about
    /// encryption.
    pub(super) fn begin(
        head: &[u8],
        stored: R,
        identity: Option<&Identity>,
    ) -> Result<Self, Damage> {
        let Some(identity) = identity else {
            if head.starts_with(AGE_MAGIC) {
                return Err(Damage::Encrypted);
            }
            return Ok(Self::None(stored));
        };
        if head.starts_with(ZSTD_MAGIC) {
            return Err(Damage::NotEncrypted);
        }
        let left = Rc::new(Cell::new(HEADER_BYTES_MAX));
        let limited = Limited {
            stored,
            left: left.clone(),
        };
        let decryptor = Decryptor::new(limited).map_err(|error| refused(&error))?;
        let identity: &dyn age::Identity = identity.as_age();
        let stream = decryptor
            .decrypt(std::iter::once(identity))
            .map_err(|error| refused(&error))?;
        left.set(u64::MAX);
        Ok(Self::Age(Box::new(stream)))
    }

    /// Reads the next bytes. A chunk that was altered, moved or truncated is refused.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Damage> {
        match self {
            // Only the store can fail here; the source's owner asks it why.
            Self::None(stored) => stored.read(buffer).map_err(|_| broken("the store failed")),
            Self::Age(stream) => stream
                .read(buffer)
                .map_err(|_| broken("one of its chunks was altered or truncated")),
        }
    }
}

/// Ends after a set number of bytes: age reads the header into memory, and a damaged one must not fill it.
pub(super) struct Limited<R> {
    stored: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stored.by_ref().take(self.left.get()).read(buffer)?;
        self.left.set(self.left.get().saturating_sub(read as u64));
        Ok(read)
    }
}

/// Explains age's error in words of our own: age's messages are made for its command line, in the user's language.
fn refused(error: &DecryptError) -> Damage {
    broken(match error {
        DecryptError::NoMatchingKeys
        | DecryptError::KeyDecryptionFailed
        | DecryptError::DecryptionFailed => "its header does not open with the key that its manifest names",
        DecryptError::InvalidMac => "its header was altered",
        DecryptError::UnknownFormat => "its header is of an age version that this build does not know",
        DecryptError::InvalidHeader
        | DecryptError::ExcessiveWork { .. }
        | DecryptError::Io(_)
        // age may add variants.
        | &_ => "its header is not an age header, or was altered or truncated",
    })
}

fn broken(why: &'static str) -> Damage {
    Damage::Encryption(why)
}
