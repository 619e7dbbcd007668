//! Where in an archive the scanner is.

/// What the bytes at hand belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Magic,
    Compression,
    Date(u8),
    DatabaseName,
    ServerVersion,
    DumpVersion,
    EntryCount,
    EntryField,
    BlockType,
    DataId,
    DataChunk,
    ObjectsId,
    ObjectOid,
    ObjectChunk,
    /// A failure is final: bytes after it mean nothing.
    Failed,
}

impl State {
    /// Returns it as an error says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Magic
            | Self::Compression
            | Self::Date(_)
            | Self::DatabaseName
            | Self::ServerVersion
            | Self::DumpVersion => "its header",
            Self::EntryCount | Self::EntryField => "its table of contents",
            Self::BlockType | Self::DataId | Self::DataChunk => "a table's data",
            Self::ObjectsId | Self::ObjectOid | Self::ObjectChunk => "large objects",
            Self::Failed => "what was found to be wrong before",
        }
    }
}
