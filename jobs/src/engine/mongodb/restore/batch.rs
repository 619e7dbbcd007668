//! Packs documents into an `insert` command: copied once, never decoded.

use bson::{Document, RawDocumentBuf, doc, spec::ElementType};

/// How many bytes go into one command, unless a single document is larger. Small enough for several commands in flight.
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Every server accepts this many.
const BATCH_DOCUMENTS: usize = 10_000;
/// How long the server may wait until its members have a batch.
const WRITE_TIMEOUT_MS: i32 = 120_000;

/// Where the documents of one namespace of the archive go, and how.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Destination {
    pub(super) database: String,
    pub(super) collection: String,
    pub(super) order: Order,
    pub(super) stored: Stored,
    pub(super) empty_timestamps: EmptyTimestamps,
    pub(super) rules: Rules,
    pub(super) doubles: Doubles,
}

/// What happens to a document whose `_id` already exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubles {
    /// It fails the restore.
    Refused,
    /// The existing document stays. If documents were read while others wrote, the archive may have one twice.
    Passed,
}

/// Whether documents must satisfy the collection's validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// There is no validator, so the privilege to bypass it is not needed.
    None,
    /// The validator is bypassed: documents written before the rule, or against it, are restored.
    PassedBy,
}

/// Whether documents must keep their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Kept,
    Any,
}

/// What the documents are to the collection that receives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    AsDocuments,
    /// The collection's internal storage: the buckets of a time series, from server 8.3 on.
    AsRawData,
}

/// What happens to a timestamp of 0 in a document. A server takes it as a request for the current time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EmptyTimestamps {
    /// The server can be told to keep it.
    Kept,
    /// The server cannot, and does not know the command's field for it.
    Replaced,
}

/// An `insert` command that is being filled.
#[derive(Debug)]
pub(super) struct Batch {
    /// The namespace's index in the prelude.
    pub(super) place: usize,
    pub(super) documents: usize,
    /// The command so far, without its end and without final lengths.
    command: Vec<u8>,
    /// The offset of its list of documents.
    list_at: usize,
}

impl Batch {
    pub(super) fn new(place: usize, destination: &Destination) -> Result<Self, bson::error::Error> {
        let mut command = bson::serialize_to_vec(&head(destination))?;
        // The end of the document, which comes later.
        command.pop();
        command.push(ElementType::Array as u8);
        command.extend_from_slice(b"documents\0");
        let list_at = command.len();
        command.extend_from_slice(&[0; 4]);
        Ok(Self {
            place,
            documents: 0,
            command,
            list_at,
        })
    }

    /// Returns whether this document belongs in the next batch.
    pub(super) fn is_full_for(&self, document: &[u8]) -> bool {
        self.documents > 0
            && (self.documents == BATCH_DOCUMENTS || self.bytes() + document.len() > BATCH_BYTES)
    }

    /// Returns how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.command.len()
    }

    pub(super) fn push(&mut self, document: &[u8]) {
        self.command.push(ElementType::EmbeddedDocument as u8);
        self.command
            .extend_from_slice(self.documents.to_string().as_bytes());
        self.command.push(0);
        self.command.extend_from_slice(document);
        self.documents += 1;
    }

    pub(super) fn into_command(mut self) -> Result<RawDocumentBuf, bson::error::Error> {
        self.command.push(0);
        let list_bytes = self.command.len() - self.list_at;
        self.set_length(self.list_at, list_bytes);
        self.command.push(0);
        self.set_length(0, self.command.len());
        RawDocumentBuf::from_bytes(self.command)
    }

    fn set_length(&mut self, at: usize, bytes: usize) {
        let length = i32::try_from(bytes).unwrap_or(i32::MAX);
        if let Some(room) = self.command.get_mut(at..at + 4) {
            room.copy_from_slice(&length.to_le_bytes());
        }
    }
}

/// Returns the fields before the documents.
fn head(destination: &Destination) -> Document {
    let mut head = doc! {
        "insert": &destination.collection,
        // An ordered command would stop at the first document that is refused.
        "ordered": destination.order == Order::Kept && destination.doubles == Doubles::Refused,
        "writeConcern": {"w": "majority", "wtimeout": WRITE_TIMEOUT_MS},
    };
    if destination.rules == Rules::PassedBy {
        head.insert("bypassDocumentValidation", true);
    }
    if destination.empty_timestamps == EmptyTimestamps::Kept {
        head.insert("bypassEmptyTsReplacement", true);
    }
    if destination.stored == Stored::AsRawData {
        head.insert("rawData", true);
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination() -> Destination {
        Destination {
            database: "shop".to_owned(),
            collection: "orders".to_owned(),
            order: Order::Kept,
            stored: Stored::AsDocuments,
            empty_timestamps: EmptyTimestamps::Kept,
            rules: Rules::PassedBy,
            doubles: Doubles::Refused,
        }
    }

    #[test]
    fn a_batch_is_a_command_with_the_documents_as_they_were() -> anyhow::Result<()> {
        let documents = [doc! {"_id": 1, "a": 1.0}, doc! {"_id": 2}];
        let mut batch = Batch::new(0, &destination())?;
        for document in &documents {
            batch.push(&bson::serialize_to_vec(document)?);
        }
        let mut expected = head(&destination());
        expected.insert("documents", documents.to_vec());
        let command = batch.into_command()?;
        assert_eq!(command.as_bytes(), bson::serialize_to_vec(&expected)?);
        Ok(())
    }

    #[test]
    fn a_document_larger_than_a_batch_has_one_for_itself() -> anyhow::Result<()> {
        let mut batch = Batch::new(0, &destination())?;
        let large = bson::serialize_to_vec(&doc! {"a": "x".repeat(BATCH_BYTES)})?;
        assert!(!batch.is_full_for(&large));
        batch.push(&large);
        assert!(batch.is_full_for(&bson::serialize_to_vec(&doc! {})?));
        Ok(())
    }
}
