//! How much room does a drill need, is it there, and how much does it take?

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use super::{ScratchSpace, error::NotPossible};

const MIB: u64 = 1024 * 1024;
/// The unit of `st_blocks`.
const BLOCK_BYTES: u64 = 512;

/// What a server needs for a dump: a multiple of its size, and what it takes when it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Factor {
    times: u64,
    besides_bytes: u64,
}

/// Tables, their indexes and the sorts that make them; an empty cluster and its write-ahead log.
pub(super) const POSTGRES: Factor = Factor {
    times: 3,
    besides_bytes: 384 * MIB,
};
/// Documents compressed on disk, their indexes, and the oplog's share; an empty server's journal and oplog.
pub(super) const MONGODB: Factor = Factor {
    times: 2,
    besides_bytes: 640 * MIB,
};
/// Values in memory are not compressed.
pub(super) const REDIS: Factor = Factor {
    times: 2,
    besides_bytes: 16 * MIB,
};

impl Factor {
    /// Returns about how many bytes a dump needs when it is restored.
    pub(super) fn needs_bytes(self, dump_bytes: u64) -> u64 {
        dump_bytes
            .saturating_mul(self.times)
            .saturating_add(self.besides_bytes)
    }
}

/// Refuses a dump that would not fit on disk when it is restored.
pub(super) fn check_disk(
    factor: Factor,
    dump_bytes: u64,
    space: &ScratchSpace,
) -> Result<(), NotPossible> {
    let needs_bytes = check_limit(factor, dump_bytes, space.max_bytes)?;
    let dir = &space.dir;
    // The first drill makes the directory. An answer that does not come is no reason: the disk itself will say when it
    // is full.
    let nearest = dir.ancestors().find(|it| it.is_dir());
    let free_bytes = rustix::fs::statvfs(nearest.unwrap_or(dir))
        .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    if needs_bytes > free_bytes {
        let dir = dir.clone();
        return Err(NotPossible::NoRoom {
            needs_bytes,
            free_bytes,
            dir,
        });
    }
    Ok(())
}

/// Refuses a dump that would not fit in memory when it is restored. Returns how much memory the server may take.
pub(super) fn check_memory(
    factor: Factor,
    dump_bytes: u64,
    space: &ScratchSpace,
) -> Result<u64, NotPossible> {
    let needs_bytes = check_limit(factor, dump_bytes, space.max_bytes)?;
    let free_bytes = free_memory().unwrap_or(u64::MAX);
    if needs_bytes > free_bytes {
        return Err(NotPossible::NoMemory {
            needs_bytes,
            free_bytes,
        });
    }
    Ok(space.max_bytes.min(free_bytes))
}

/// Refuses a dump that would exceed the limit when it is restored. Returns what it needs.
pub(super) fn check_limit(
    factor: Factor,
    dump_bytes: u64,
    allowed_bytes: u64,
) -> Result<u64, NotPossible> {
    let needs_bytes = factor.needs_bytes(dump_bytes);
    if needs_bytes > allowed_bytes {
        return Err(NotPossible::TooLarge {
            needs_bytes,
            allowed_bytes,
        });
    }
    Ok(needs_bytes)
}

/// Returns how much memory is free on this machine, and within the limit of this process's container. `None` on systems
/// that do not say.
fn free_memory() -> Option<u64> {
    let machine = available(&fs::read_to_string("/proc/meminfo").ok()?)?;
    Some(machine.min(free_of_container().unwrap_or(u64::MAX)))
}

/// Returns how much this process's container may still take; `None` if it has no limit. What it only caches of files
/// can be given back.
fn free_of_container() -> Option<u64> {
    let read = |file: &str| fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok();
    // Without a limit the file says `max`.
    let limit: u64 = read("memory.max")?.trim().parse().ok()?;
    let used: u64 = read("memory.current")?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    let cached = stat
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "));
    let cached: u64 = cached.and_then(|it| it.parse().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

/// Reads `MemAvailable:   123 kB`.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Returns how much disk a directory takes with everything in it.
///
/// Files may come and go meanwhile: what is gone counts nothing.
pub(super) fn used_bytes(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut rest = vec![directory.to_owned()];
    while let Some(directory) = rest.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Ok(found) = entry.metadata() else {
                continue;
            };
            bytes += found.blocks() * BLOCK_BYTES;
            if found.is_dir() {
                rest.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn space(dir: &Path, max_bytes: u64) -> ScratchSpace {
        ScratchSpace {
            dir: dir.to_owned(),
            max_bytes,
            run_as: None,
        }
    }

    #[test]
    fn a_dump_that_would_not_fit_is_refused_with_numbers() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let refused = check_disk(POSTGRES, 1000, &space(dir.path(), 5)).unwrap_err();
        let needs_bytes = 3000 + 384 * MIB;
        assert_eq!(
            refused,
            NotPossible::TooLarge {
                needs_bytes,
                allowed_bytes: 5
            }
        );
        let said = refused.to_string();
        assert!(
            said.contains(&needs_bytes.to_string()) && said.contains("--drill-max-bytes"),
            "{said}"
        );
        let refused = check_disk(MONGODB, u64::MAX / 4, &space(dir.path(), u64::MAX)).unwrap_err();
        assert_eq!(refused.as_str(), "no_room", "{refused}");
        Ok(())
    }

    #[test]
    fn memory_is_what_is_available_and_no_more_than_the_limit() -> anyhow::Result<()> {
        assert_eq!(
            available("MemTotal: 9 kB\nMemAvailable:    3 kB\n"),
            Some(3072)
        );
        assert_eq!(available("MemTotal: 9 kB\n"), None);
        let dir = tempfile::tempdir()?;
        assert_eq!(
            check_memory(REDIS, 0, &space(dir.path(), 20 * MIB)),
            Ok(20 * MIB)
        );
        Ok(())
    }

    #[test]
    fn everything_below_a_directory_counts() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let before = used_bytes(dir.path())?;
        fs::create_dir(dir.path().join("a"))?;
        fs::write(dir.path().join("a/b"), vec![1; 100_000])?;
        assert!(used_bytes(dir.path())? >= before + 100_000);
        Ok(())
    }

    proptest! {
        #[test]
        fn a_larger_dump_never_needs_less(one: u64, other: u64) {
            for factor in [POSTGRES, MONGODB, REDIS] {
                prop_assert!(factor.needs_bytes(one.min(other)) <= factor.needs_bytes(one.max(other)));
            }
        }
    }
}
