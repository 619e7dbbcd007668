//! Where in an archive the scanner is.

/// What the next bytes belong to.
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
    /// Failures are final: later bytes mean nothing.
    Failed,
}

impl State {
    /// Returns its name for errors.
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
            Self::Failed => "bytes after an earlier failure",
        }
    }
}
