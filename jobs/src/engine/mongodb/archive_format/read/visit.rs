//! Who is shown what an archive holds, as it flies by.

use super::super::{FormatError, Prelude};

/// Is shown what an archive holds. `()` looks at nothing: for an archive that is only to be checked.
///
/// An error stops the reader for good; [`FormatError::Refused`] is for the visitor's own.
pub(crate) trait Visit {
    /// Shows what stands before the documents.
    fn prelude(&mut self, prelude: &Prelude) -> Result<(), FormatError>;

    /// Shows one document of a namespace, named by its place in the prelude.
    ///
    /// Only its length and its last byte were checked, and the checksum stands at the namespace's end: whoever acts on
    /// documents at once has to know from elsewhere that the archive is unharmed.
    fn document(&mut self, namespace: usize, raw: &[u8]) -> Result<(), FormatError>;

    /// Says that a namespace has ended, and that its documents were those that were dumped.
    fn end(&mut self, namespace: usize) -> Result<(), FormatError>;
}

impl Visit for () {
    fn prelude(&mut self, _: &Prelude) -> Result<(), FormatError> {
        Ok(())
    }

    fn document(&mut self, _: usize, _: &[u8]) -> Result<(), FormatError> {
        Ok(())
    }

    fn end(&mut self, _: usize) -> Result<(), FormatError> {
        Ok(())
    }
}
