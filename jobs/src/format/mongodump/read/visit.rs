//! The visitor that is shown what an archive holds, as it streams by.

use super::super::{FormatError, Prelude};

/// Is shown what an archive holds. `()` ignores everything: for an archive that is only to be checked.
///
/// An error stops the reader for good; [`FormatError::Refused`] is for the visitor's own.
pub(crate) trait Visit {
    /// Shows what comes before the documents.
    fn prelude(&mut self, prelude: &Prelude) -> Result<(), FormatError>;

    /// Shows one document of a namespace, which is given by its index in the prelude.
    ///
    /// Only the document's length and last byte have been checked; the checksum comes at the namespace's end. A visitor
    /// that acts on documents at once must know from elsewhere that the archive is undamaged.
    fn document(&mut self, namespace: usize, raw: &[u8]) -> Result<(), FormatError>;

    /// Says that a namespace has ended, and that its documents match their checksum.
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
