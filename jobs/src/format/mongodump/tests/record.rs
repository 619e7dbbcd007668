//! A visitor that records everything it is shown.

use super::super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) prelude: Prelude,
    /// By namespace.
    pub(super) documents: Vec<Vec<Vec<u8>>>,
    /// In the order in which they ended.
    pub(super) ended: Vec<usize>,
    /// The error that it returns for a view.
    pub(super) refuses: Option<&'static str>,
}

impl Default for Record {
    fn default() -> Self {
        let header = Header {
            concurrent_collections: 0,
            server_version: String::new(),
            tool_version: String::new(),
        };
        Self {
            prelude: Prelude {
                header,
                namespaces: Vec::new(),
            },
            documents: Vec::new(),
            ended: Vec::new(),
            refuses: None,
        }
    }
}

impl Visit for Record {
    fn prelude(&mut self, prelude: &Prelude) -> Result<(), FormatError> {
        self.documents = vec![Vec::new(); prelude.namespaces.len()];
        self.prelude = prelude.clone();
        let has_view = prelude.namespaces.iter().any(|it| it.kind == Kind::View);
        match self.refuses {
            Some(why) if has_view => Err(FormatError::Refused {
                why: why.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn document(&mut self, namespace: usize, raw: &[u8]) -> Result<(), FormatError> {
        self.documents[namespace].push(raw.to_vec());
        Ok(())
    }

    fn end(&mut self, namespace: usize) -> Result<(), FormatError> {
        self.ended.push(namespace);
        Ok(())
    }
}

/// Reads an archive in pieces of this length.
pub(super) fn read(bytes: &[u8], piece: usize) -> Result<(Summary, Record), FormatError> {
    let mut reader = Reader::new(Record::default());
    for piece in bytes.chunks(piece.max(1)) {
        reader.feed(piece)?;
    }
    reader.finish()
}
