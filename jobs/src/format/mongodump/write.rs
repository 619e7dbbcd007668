//! Writes a namespace's documents into an archive.

use super::{
    DOCUMENT_BYTES_MAX, FormatError, Header, Namespace, TERMINATOR,
    block::{BlockHeader, Mark},
    checksum::Checksum,
    length_of,
};

/// The documents of one namespace on their way out.
///
/// Several bodies may be in progress: their blocks may alternate, but not overlap. Each namespace of the prelude needs
/// its [`end`](Body::end), views too; [`super::Reader`] notices a missing one.
#[derive(Debug)]
pub(crate) struct Body {
    database: String,
    collection: String,
    begin: Vec<u8>,
    checksum: Checksum,
}

impl Body {
    /// Starts the body of a namespace of the prelude with this header.
    pub(crate) fn new(header: &Header, namespace: &Namespace) -> Self {
        let database = namespace.database.clone();
        let collection = namespace.data_collection(header).into_owned();
        let begin = BlockHeader {
            database: &database,
            collection: &collection,
            mark: Mark::Documents,
        };
        Self {
            begin: begin.to_bytes(),
            database,
            collection,
            checksum: Checksum::new(),
        }
    }

    /// Appends one block. Every piece holds one or more whole raw documents, back to back.
    ///
    /// A failure appends nothing. Documents are copied once. A block may be empty, and of any length, because readers
    /// read it document by document.
    pub(crate) fn block<'a>(
        &mut self,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        let begin = out.len();
        out.extend_from_slice(&self.begin);
        let documents = out.len();
        for piece in pieces {
            if !are_documents(piece) {
                out.truncate(begin);
                return Err(FormatError::Unwritable {
                    what: "bytes that are not whole documents of up to 48 MiB",
                });
            }
            out.extend_from_slice(piece);
        }
        self.checksum
            .update(out.get(documents..).unwrap_or_default());
        out.extend_from_slice(&TERMINATOR);
        Ok(())
    }

    /// Appends the namespace's end.
    pub(crate) fn end(self, out: &mut Vec<u8>) {
        let end = BlockHeader {
            database: &self.database,
            collection: &self.collection,
            mark: Mark::End(self.checksum.value()),
        };
        out.extend(end.to_bytes());
        out.extend_from_slice(&TERMINATOR);
    }
}

/// Returns whether these are documents back to back, by their lengths and last bytes.
fn are_documents(mut piece: &[u8]) -> bool {
    while let Some(head) = piece.first_chunk() {
        let split =
            length_of(*head, DOCUMENT_BYTES_MAX).and_then(|length| piece.split_at_checked(length));
        match split {
            Some(([.., 0], rest)) => piece = rest,
            Some(_) | None => return false,
        }
    }
    piece.is_empty()
}
