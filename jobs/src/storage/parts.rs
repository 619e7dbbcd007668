//! How large should the next part of an upload be, if nobody knows how much is still to come?
//!
//! A bucket accepts 10,000 parts and 5 TiB per object, and only the last part may be small. With parts of 8 MiB an
//! object would end at 78 GiB; with parts of 524 MiB every small backup would take half a gigabyte of memory. So parts
//! grow with what is known: the expected size, and what has been written so far.

const MIB: u64 = 1024 * 1024;
/// The smallest part, and the only size for nearly every archive.
pub(super) const PART_BYTES_MIN: u64 = 8 * MIB;
/// The largest part that S3 accepts.
const PART_BYTES_MAX: u64 = 5 * 1024 * MIB;
/// How many parts an object of the expected size has at most.
const PARTS_EXPECTED: u64 = 5000;
/// Beyond the expected size, a part is at least the bytes written before it, divided by this.
const PART_OF_WRITTEN: u64 = 1000;
/// How much memory the parts in flight may take together, unless two parts alone take more.
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

/// Returns how many parts are sent at once.
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
