//! How large is the next part of an upload, when nobody knows how much is still to come?
//!
//! A bucket takes 10,000 parts of one object and 5 TiB in all, and no part but the last may be small. Parts of 8 MiB would
//! end at 78 GiB; parts of 524 MiB would cost every small backup half a gigabyte of memory. So parts grow with what is
//! known: the size that is expected, and what has been written so far.

const MIB: u64 = 1024 * 1024;
/// The smallest part, and for nearly every archive the only size.
pub(super) const PART_BYTES_MIN: u64 = 8 * MIB;
/// The largest part that S3 takes.
const PART_BYTES_MAX: u64 = 5 * 1024 * MIB;
/// An object of the expected size has at most so many parts.
const PARTS_EXPECTED: u64 = 5000;
/// Past the expected size, a part is at least this fraction of what was written before it.
const PART_OF_WRITTEN: u64 = 1000;
/// What the parts that are on their way at the same time may hold in memory together, as long as two of them do.
const IN_FLIGHT_BYTES: u64 = 32 * MIB;

/// Returns the size of the part that begins after `written` bytes.
pub(super) fn part_bytes(expected: u64, written: u64) -> u64 {
    let base = expected.div_ceil(PARTS_EXPECTED).max(PART_BYTES_MIN);
    let grown = if written < expected {
        0
    } else {
        written / PART_OF_WRITTEN
    };
    base.max(grown).next_multiple_of(MIB).min(PART_BYTES_MAX)
}

/// Returns how many parts are sent at the same time.
pub(super) fn parts_in_flight(expected: u64) -> usize {
    let fitting = IN_FLIGHT_BYTES / part_bytes(expected, 0);
    usize::try_from(fitting).unwrap_or(usize::MAX).clamp(2, 4)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const GIB: u64 = 1024 * MIB;
    const TIB: u64 = 1024 * GIB;

    fn parts(expected: u64, size: u64) -> u64 {
        let (mut written, mut parts) = (0, 0);
        while written < size {
            written += part_bytes(expected, written);
            parts += 1;
        }
        parts
    }

    #[rstest]
    #[case::unknown(0)]
    #[case::small(GIB)]
    #[case::as_large_as_small_parts_go(5000 * PART_BYTES_MIN)]
    #[case::large(500 * GIB)]
    #[case::right(5 * TIB)]
    fn the_largest_object_has_parts_enough_whatever_was_expected(#[case] expected: u64) {
        let parts = parts(expected, 5 * TIB);
        assert!(parts <= 10_000, "{parts} parts");
    }

    #[test]
    fn memory_follows_what_is_known() {
        assert_eq!(part_bytes(0, 0), PART_BYTES_MIN);
        assert_eq!(part_bytes(0, 8 * GIB), 9 * MIB);
        assert_eq!(part_bytes(100 * GIB, 0), 21 * MIB);
        assert_eq!(part_bytes(100 * GIB, 99 * GIB), 21 * MIB);
        assert_eq!((parts_in_flight(0), parts_in_flight(TIB)), (4, 2));
    }
}
