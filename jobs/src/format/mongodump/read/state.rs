//! Where in an archive the reader is.

use super::super::FormatError;

/// What the next bytes belong to. Namespaces are given by their index in the prelude.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Magic,
    Header,
    Namespaces,
    BlockHeader,
    Documents(usize),
    /// After the header that ends a namespace, before its terminator.
    End(usize),
    /// Every namespace has ended.
    Done,
    /// Failures are final: later bytes mean nothing.
    Failed(FormatError),
}

impl State {
    /// Returns its name for errors.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Magic | Self::Header => "its header",
            Self::Namespaces => "its list of namespaces",
            Self::BlockHeader => "the header of a block",
            Self::Documents(_) => "a block of documents",
            Self::End(_) => "a namespace's end",
            Self::Done => "nothing",
            Self::Failed(_) => "bytes after an earlier failure",
        }
    }
}
