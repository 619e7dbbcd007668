//! The checksum over a namespace's documents: CRC-64/XZ, which Go calls ECMA.

use crc_fast::{CrcAlgorithm, Digest};

/// A running checksum. Only its state is kept, because there is one for each namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checksum(u64);

impl Checksum {
    /// Returns the checksum of nothing.
    pub(super) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Xz).get_state())
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        let mut digest = self.digest();
        digest.update(bytes);
        self.0 = digest.get_state();
    }

    /// Returns the checksum as the archive has it: BSON has no unsigned integers.
    pub(super) fn value(self) -> i64 {
        self.digest().finalize().cast_signed()
    }

    fn digest(self) -> Digest {
        Digest::new_with_init_state(CrcAlgorithm::Crc64Xz, self.0)
    }
}
