//! Which keys a backup has: just enough to tell them from others.

/// The keys of a backup, each as 16 bytes of hash. A restore in place keeps nothing else of a key in memory: 1.6 GB for
/// 100 million keys.
#[derive(Debug, Default)]
pub(super) struct Roll {
    hashes: Vec<u128>,
}

impl Roll {
    /// Reserves room for all keys at once: growing would take twice as much.
    pub(super) fn with_capacity(keys: u64) -> Self {
        let keys = usize::try_from(keys).unwrap_or(0);
        Self {
            hashes: Vec::with_capacity(keys),
        }
    }

    pub(super) fn add(&mut self, database: u64, key: &[u8]) {
        self.hashes.push(hash(database, key));
    }

    /// Ends the adding, and returns the roll for look-ups.
    pub(super) fn close(mut self) -> ClosedRoll {
        self.hashes.sort_unstable();
        ClosedRoll {
            hashes: self.hashes,
        }
    }
}

/// A roll for look-ups.
#[derive(Debug)]
pub(super) struct ClosedRoll {
    hashes: Vec<u128>,
}

impl ClosedRoll {
    pub(super) fn has(&self, database: u64, key: &[u8]) -> bool {
        self.hashes.binary_search(&hash(database, key)).is_ok()
    }
}

/// Wide and strong enough that two keys never collide, not even on purpose.
fn hash(database: u64, key: &[u8]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&database.to_le_bytes()).update(key);
    let hash = hasher.finalize();
    hash.as_bytes()
        .first_chunk()
        .map_or(0, |it| u128::from_le_bytes(*it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_in_its_own_database_only() {
        let mut roll = Roll::with_capacity(2);
        roll.add(0, b"a");
        roll.add(7, b"b");
        let roll = roll.close();
        assert!(roll.has(0, b"a") && roll.has(7, b"b"));
        assert!(!roll.has(7, b"a") && !roll.has(0, b"b") && !roll.has(0, b""));
    }
}
