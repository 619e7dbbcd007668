//! The layout of the custom format: its constants, the fields of an entry, and the items of a stream.

/// Versions 1.12 (server version 10) to 1.16 (17 and 18).
pub(super) const MINOR_OLDEST: u8 = 12;
pub(super) const MINOR_NEWEST: u8 = 16;
pub(super) const INT_BYTES: usize = 4;
pub(super) const OFFSET_BYTES: usize = 8;
pub(super) const FORMAT_CUSTOM: u8 = 1;
pub(super) const STATE_UNKNOWN_OFFSET: u8 = 1;
pub(super) const STATE_WITH_OFFSET: u8 = 2;
pub(super) const STATE_NO_DATA: u8 = 3;
pub(super) const BLOCK_DATA: u8 = 1;
pub(super) const BLOCK_LARGE_OBJECTS: u8 = 3;

/// The fields of an entry. Which ones an entry has depends on the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    Int,
    Text,
    Tag,
    Kind,
    Definition,
    Copy,
    Namespace,
    Tablespace,
    Dependency,
    Offset,
}

/// Up to 1.13: …, section, definition, drop, copy, namespace, tablespace, owner, oids, dependencies, offset.
const FIELDS_12: &[Field] = {
    use Field::{
        Copy, Definition, Dependency, Id, Int, Kind, Namespace, Offset, Tablespace, Tag, Text,
    };
    &[
        Id, Int, Text, Text, Tag, Kind, Int, Definition, Text, Copy, Namespace, Tablespace, Text,
        Text, Dependency, Offset,
    ]
};
/// From 1.14: with the table access method after the tablespace.
const FIELDS_14: &[Field] = {
    use Field::{
        Copy, Definition, Dependency, Id, Int, Kind, Namespace, Offset, Tablespace, Tag, Text,
    };
    &[
        Id, Int, Text, Text, Tag, Kind, Int, Definition, Text, Copy, Namespace, Tablespace, Text,
        Text, Text, Dependency, Offset,
    ]
};
/// From 1.16: with the kind of relation after that.
const FIELDS_16: &[Field] = {
    use Field::{
        Copy, Definition, Dependency, Id, Int, Kind, Namespace, Offset, Tablespace, Tag, Text,
    };
    &[
        Id, Int, Text, Text, Tag, Kind, Int, Definition, Text, Copy, Namespace, Tablespace, Text,
        Int, Text, Text, Dependency, Offset,
    ]
};

/// The current item, as far as it has arrived.
#[derive(Debug)]
pub(super) enum Item {
    /// A fixed number of bytes.
    Fixed {
        bytes: [u8; 16],
        have: usize,
        want: usize,
    },
    /// The bytes of a string that is kept.
    Name { bytes: Vec<u8>, want: usize },
    /// Bytes that are skipped.
    Skip { left: u64 },
}

impl Item {
    pub(super) fn fixed(want: usize) -> Self {
        Self::Fixed {
            bytes: [0; 16],
            have: 0,
            want,
        }
    }

    pub(super) fn int() -> Self {
        Self::fixed(1 + INT_BYTES)
    }
}

/// Returns the fields of an entry in a version of the format.
pub(super) fn fields_of(minor: u8) -> &'static [Field] {
    match minor {
        16.. => FIELDS_16,
        14.. => FIELDS_14,
        _ => FIELDS_12,
    }
}

/// Parses a sign byte and four bytes, least significant first.
pub(super) fn int(bytes: &[u8; 16]) -> i64 {
    let [sign, a, b, c, d, ..] = *bytes;
    let magnitude = i64::from(u32::from_le_bytes([a, b, c, d]));
    if sign == 0 { magnitude } else { -magnitude }
}
