//! How documents get into an `insert` command: copied once, never decoded.

use bson::{Document, RawDocumentBuf, doc, spec::ElementType};

/// How much goes into one command, unless one document alone is more. Small enough that a few may be under way.
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Every server takes as many.
const BATCH_DOCUMENTS: usize = 10_000;
/// How long the server may wait for its members to have a batch.
const WRITE_TIMEOUT_MS: i32 = 120_000;

/// Where documents of one namespace of the archive go, and how.
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

/// What becomes of a document whose `_id` is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubles {
    /// It fails the restore.
    Refused,
    /// The first stays. Where documents were read while others wrote, one may have been met twice.
    Passed,
}

/// Whether documents must obey the collection's validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// There is none; so the privilege to pass it by is not needed.
    None,
    /// What was written before its rule, or against it, comes back.
    PassedBy,
}

/// Whether documents have to arrive as they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Kept,
    Any,
}

/// What the documents are to the collection that gets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    AsDocuments,
    /// What the collection is made of, below what it shows: a time series' buckets, from server 8.3 on.
    AsRawData,
}

/// What becomes of a timestamp of 0 in a document. To a server that is a request for the current time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EmptyTimestamps {
    /// It can be told to keep them.
    Kept,
    /// It cannot, and knows no such field in the command.
    Replaced,
}

/// An `insert` command that is being filled.
#[derive(Debug)]
pub(super) struct Batch {
    /// The place in the prelude.
    pub(super) place: usize,
    pub(super) documents: usize,
    /// The command so far: without its end, and its lengths are not right yet.
    command: Vec<u8>,
    /// Where its list of documents begins.
    list_at: usize,
}

impl Batch {
    /// Begins a command.
    pub(super) fn new(place: usize, destination: &Destination) -> Result<Self, bson::error::Error> {
        let mut command = bson::serialize_to_vec(&head(destination))?;
        // The end of a document, which comes later.
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

    /// Returns whether this document is better put into the next one.
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

    /// Returns the whole command.
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

/// Returns what stands before the documents.
fn head(destination: &Destination) -> Document {
    let mut head = doc! {
        "insert": &destination.collection,
        // After one that is refused, one that is ordered would end.
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
