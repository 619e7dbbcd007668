//! Reads an archive as it streams by, in pieces of any size: shows each document once, and checks everything.

mod ledger;
mod state;
mod visit;

use self::{ledger::Ledger, state::State};
use super::{
    DOCUMENT_BYTES_MAX, FormatError, Header, MAGIC, NAMESPACES_MAX, Namespace, PRELUDE_BYTES_MAX,
    PRELUDE_DOCUMENT_BYTES_MAX, Prelude, Summary, TERMINATOR,
    block::{BlockHeader, HEADER_BYTES_MAX, Mark},
    length_of,
};

pub(crate) use self::visit::Visit;

/// The length of the magic number, of a terminator, and of a document's length.
const HEAD_BYTES: usize = 4;
/// The first bytes of a `gzip` stream.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads an archive.
///
/// Keeps in memory the prelude until it has been shown, one document that arrived in pieces, and counts for each
/// namespace.
#[derive(Debug)]
pub(crate) struct Reader<V> {
    visit: V,
    state: State,
    /// The offset of the current item.
    at: u64,
    /// The start of an item that arrived in pieces.
    partial: Vec<u8>,
    /// The prelude as far as it has arrived.
    header: Option<Header>,
    namespaces: Vec<Namespace>,
    ledger: Ledger,
}

impl<V: Visit> Reader<V> {
    /// Starts at the start of an archive.
    pub(crate) fn new(visit: V) -> Self {
        Self {
            visit,
            state: State::Magic,
            at: 0,
            partial: Vec::new(),
            header: None,
            namespaces: Vec::new(),
            ledger: Ledger::default(),
        }
    }

    /// Takes the next bytes. After a failure, every call fails in the same way.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let taken = self.take(bytes);
        if let Err(error) = &taken {
            self.state = State::Failed(error.clone());
            self.partial = Vec::new();
        }
        taken
    }

    /// Returns what the archive held, and the visitor, if the archive was whole. To be called at the end of the stream.
    pub(crate) fn finish(self) -> Result<(Summary, V), FormatError> {
        let at = self.at + self.partial.len() as u64;
        match self.state {
            State::Failed(error) => Err(error),
            State::Done => Ok((self.ledger.into_summary(at), self.visit)),
            State::BlockHeader if self.partial.is_empty() => Err(FormatError::Unended {
                at,
                missing: self.ledger.open(),
            }),
            state @ (State::Magic
            | State::Header
            | State::Namespaces
            | State::BlockHeader
            | State::Documents(_)
            | State::End(_)) => Err(FormatError::Truncated {
                at,
                within: state.name(),
            }),
        }
    }

    /// Returns the visitor, with what it has been shown so far.
    pub(crate) fn visitor(&mut self) -> &mut V {
        &mut self.visit
    }

    /// Returns how many bytes are kept of an item that arrived in pieces.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.partial.capacity()
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), FormatError> {
        while !bytes.is_empty() {
            bytes = if self.partial.is_empty() {
                self.begin(bytes)?
            } else {
                self.complete(bytes)?
            };
        }
        Ok(())
    }

    fn begin<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
        match &self.state {
            State::Magic
            | State::Header
            | State::Namespaces
            | State::BlockHeader
            | State::End(_) => self.item(bytes),
            State::Documents(namespace) => self.documents(*namespace, bytes),
            State::Done => Err(self.malformed("bytes after its end")),
            State::Failed(error) => Err(error.clone()),
        }
    }

    /// The fast path: shows the documents that are whole in `bytes`, without copying them. Returns what follows.
    fn documents<'a>(
        &mut self,
        namespace: usize,
        bytes: &'a [u8],
    ) -> Result<&'a [u8], FormatError> {
        let mut rest = bytes;
        let mut count = 0;
        while let Some(head) = rest.first_chunk().filter(|head| **head != TERMINATOR) {
            let Some((document, after)) = rest.split_at_checked(self.length_of(*head)?) else {
                break;
            };
            self.show(namespace, document)?;
            count += 1;
            rest = after;
        }
        let run = bytes.get(..bytes.len() - rest.len()).unwrap_or_default();
        self.ledger.add(namespace, count, run);
        if rest.is_empty() {
            return Ok(rest);
        }
        self.item(rest)
    }

    /// Acts on the item at the start of `bytes`, or keeps the start of it. Returns what follows.
    fn item<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
        let split = match bytes.first_chunk() {
            Some(head) => bytes.split_at_checked(self.length_of(*head)?),
            None => None,
        };
        if let Some((item, rest)) = split {
            self.act(item)?;
            Ok(rest)
        } else {
            self.partial.extend_from_slice(bytes);
            Ok(&[])
        }
    }

    /// Adds to an item that arrived in pieces, and acts on it once it is whole. Returns what follows.
    fn complete<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
        let wanted = match self.partial.first_chunk() {
            Some(head) => self.length_of(*head)?,
            None => HEAD_BYTES,
        };
        let missing = wanted.saturating_sub(self.partial.len());
        let (more, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        // Grows with the bytes that have arrived and never beyond the announced length, whatever that is.
        let room = missing.min(self.partial.len().max(more.len()));
        if self.partial.capacity() - self.partial.len() < more.len() {
            self.partial.reserve_exact(room);
        }
        self.partial.extend_from_slice(more);
        let is_whole = match self.partial.first_chunk() {
            Some(head) => self.length_of(*head)? == self.partial.len(),
            None => false,
        };
        if is_whole {
            let item = std::mem::take(&mut self.partial);
            self.act(&item)?;
            self.partial = item;
            self.partial.clear();
        }
        Ok(rest)
    }

    /// Returns the length of an item with this start, in the current state.
    fn length_of(&self, head: [u8; HEAD_BYTES]) -> Result<usize, FormatError> {
        let most = match self.state {
            State::Magic => return Ok(HEAD_BYTES),
            _ if head == TERMINATOR => return Ok(HEAD_BYTES),
            State::Header | State::Namespaces => PRELUDE_DOCUMENT_BYTES_MAX,
            State::BlockHeader => HEADER_BYTES_MAX,
            State::Documents(_) => DOCUMENT_BYTES_MAX,
            State::End(_) => return Err(self.malformed("a document in a namespace's end")),
            State::Done | State::Failed(_) => 0,
        };
        length_of(head, most).ok_or_else(|| self.malformed("a document of impossible length"))
    }

    /// Acts on a whole item, and moves on to the next state.
    fn act(&mut self, item: &[u8]) -> Result<(), FormatError> {
        let is_terminator = item == TERMINATOR;
        if !is_terminator && self.state != State::Magic && item.last() != Some(&0) {
            return Err(self.malformed("a document that does not end with a 0"));
        }
        match self.state {
            State::Magic => self.magic(item)?,
            State::Header | State::BlockHeader if is_terminator => {
                return Err(self.malformed("a terminator where a header belongs"));
            }
            State::Header => {
                self.header = Some(Header::parse(item, self.at)?);
                self.state = State::Namespaces;
            }
            State::Namespaces if is_terminator => self.end_prelude()?,
            State::Namespaces => self.namespace(item)?,
            State::BlockHeader => self.block(item)?,
            State::Documents(_) if is_terminator => self.state = State::BlockHeader,
            State::Documents(namespace) => {
                self.show(namespace, item)?;
                self.ledger.add(namespace, 1, item);
                return Ok(());
            }
            State::End(namespace) => self.end_namespace(namespace)?,
            State::Done | State::Failed(_) => {}
        }
        self.at += item.len() as u64;
        Ok(())
    }

    fn magic(&mut self, item: &[u8]) -> Result<(), FormatError> {
        if item.starts_with(&GZIP) {
            return Err(FormatError::Compressed);
        }
        if item != MAGIC {
            return Err(FormatError::NotArchive);
        }
        self.state = State::Header;
        Ok(())
    }

    fn namespace(&mut self, item: &[u8]) -> Result<(), FormatError> {
        let is_too_much = self.at + item.len() as u64 > PRELUDE_BYTES_MAX as u64;
        if is_too_much || self.namespaces.len() == NAMESPACES_MAX {
            return Err(self.malformed("an impossible number of namespaces"));
        }
        let namespace = Namespace::parse(item).map_err(|what| self.malformed(what))?;
        self.namespaces.push(namespace);
        Ok(())
    }

    /// Shows the prelude, and keeps what the blocks are checked against.
    fn end_prelude(&mut self) -> Result<(), FormatError> {
        let Some(header) = self.header.take() else {
            return Err(self.malformed("no header"));
        };
        let namespaces = std::mem::take(&mut self.namespaces);
        for namespace in &namespaces {
            let collection = namespace.data_collection(&header);
            if !self.ledger.announce(&namespace.database, &collection) {
                return Err(self.malformed("two namespaces of the same name before it"));
            }
        }
        self.visit.prelude(&Prelude { header, namespaces })?;
        self.next_block();
        Ok(())
    }

    fn block(&mut self, item: &[u8]) -> Result<(), FormatError> {
        let header = BlockHeader::parse(item).map_err(|what| self.malformed(what))?;
        let at = self.at;
        let name = || format!("{}.{}", header.database, header.collection);
        let Some(namespace) = self.ledger.find(header.database, header.collection) else {
            let namespace = name();
            return Err(FormatError::Unannounced { namespace, at });
        };
        if self.ledger.has_ended(namespace) {
            let namespace = name();
            return Err(FormatError::AfterEnd { namespace, at });
        }
        self.state = match header.mark {
            Mark::Documents => State::Documents(namespace),
            Mark::End(checksum) if self.ledger.end(namespace, checksum) => State::End(namespace),
            Mark::End(_) => {
                let namespace = name();
                return Err(FormatError::Checksum { namespace, at });
            }
        };
        Ok(())
    }

    fn show(&mut self, namespace: usize, document: &[u8]) -> Result<(), FormatError> {
        if document.last() != Some(&0) {
            return Err(self.malformed("a document that does not end with a 0"));
        }
        self.visit.document(namespace, document)?;
        self.at += document.len() as u64;
        Ok(())
    }

    fn end_namespace(&mut self, namespace: usize) -> Result<(), FormatError> {
        self.visit.end(namespace)?;
        self.next_block();
        Ok(())
    }

    fn next_block(&mut self) {
        self.state = match self.ledger.open() {
            0 => State::Done,
            _ => State::BlockHeader,
        };
    }

    fn malformed(&self, what: &'static str) -> FormatError {
        FormatError::Malformed { what, at: self.at }
    }
}
