//! The contents of an archive, read by code independent of the code under test.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use bson::{Document, RawDocumentBuf};

const MAGIC: &[u8] = &[0x6d, 0xe2, 0x99, 0x81];
const MARK: &[u8] = &[0xff; 4];

pub(crate) struct Archive {
    pub(crate) header: Document,
    /// Each namespace's entry in the prelude, by `database.collection`.
    pub(crate) namespaces: BTreeMap<String, Document>,
    /// The stored documents, by the namespace of their blocks.
    pub(crate) documents: BTreeMap<String, Vec<RawDocumentBuf>>,
}

impl Archive {
    pub(crate) fn read(stored: &[u8]) -> Result<Self> {
        let dump = zstd::decode_all(stored)?;
        let mut rest = dump.strip_prefix(MAGIC).context("no magic number")?;
        let header = Document::try_from(take(&mut rest)?.context("no header")?)?;
        let mut namespaces = BTreeMap::new();
        while let Some(namespace) = take(&mut rest)? {
            let namespace = Document::try_from(namespace)?;
            namespaces.insert(name(&namespace)?, namespace);
        }
        let mut documents = BTreeMap::<_, Vec<_>>::new();
        let mut ended = 0;
        while !rest.is_empty() {
            let block = Document::try_from(take(&mut rest)?.context("no block")?)?;
            let documents = documents.entry(name(&block)?).or_default();
            ended += usize::from(block.get_bool("EOF")?);
            while let Some(document) = take(&mut rest)? {
                documents.push(document);
            }
        }
        ensure!(ended == namespaces.len(), "{ended} namespaces ended");
        Ok(Self {
            header,
            namespaces,
            documents,
        })
    }

    /// Returns the metadata that the archive has for a namespace.
    pub(crate) fn metadata(&self, namespace: &str) -> Result<&str> {
        let told = self
            .namespaces
            .get(namespace)
            .context("no such namespace")?;
        Ok(told.get_str("metadata")?)
    }
}

fn name(of: &Document) -> Result<String> {
    Ok(format!(
        "{}.{}",
        of.get_str("db")?,
        of.get_str("collection")?
    ))
}

/// Takes the next document. `None` at a mark.
fn take(rest: &mut &[u8]) -> Result<Option<RawDocumentBuf>> {
    let (head, after) = rest.split_first_chunk::<4>().context("cut")?;
    if head == MARK {
        *rest = after;
        return Ok(None);
    }
    let length = usize::try_from(i32::from_le_bytes(*head))?;
    let (document, after) = rest.split_at_checked(length).context("cut")?;
    *rest = after;
    Ok(Some(RawDocumentBuf::from_bytes(document.to_vec())?))
}
