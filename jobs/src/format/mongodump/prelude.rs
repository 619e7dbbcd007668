//! What comes before the documents: who made the archive, and which namespaces it holds.

use std::{borrow::Cow, collections::HashSet};

use bson::{RawBson, RawDocumentBuf, rawdoc};

use super::{
    FormatError, MAGIC, NAME_BYTES_MAX, NAMESPACES_MAX, PRELUDE_BYTES_MAX,
    PRELUDE_DOCUMENT_BYTES_MAX, TERMINATOR, VERSION, fields,
};

/// The first server version that keeps the buckets of a time series under the name of the time series.
const VIEWLESS_TIME_SERIES: (u32, u32) = (8, 3);
/// How many characters of an unknown version an error repeats.
const VERSION_CHARS_SHOWN: usize = 32;

/// What comes before the documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prelude {
    /// Who made the archive.
    pub(crate) header: Header,
    /// The namespaces. Their blocks may come in another order.
    pub(crate) namespaces: Vec<Namespace>,
}

/// Who made an archive. Has no field for `version`, because only one is supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// How many collections were dumped at once; `mongorestore` restores as many at once.
    pub(crate) concurrent_collections: i32,
    /// The server's version, e.g. `8.0.4`. It tells `mongorestore` where the buckets of a time series are.
    pub(crate) server_version: String,
    /// The version of the tool that made the dump.
    pub(crate) tool_version: String,
}

/// One collection, view or time series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespace {
    /// Its database; empty for the oplog.
    pub(crate) database: String,
    /// Its name, never empty.
    pub(crate) collection: String,
    /// Its options and indexes as canonical extended JSON, opaque here; empty if there are none.
    pub(crate) metadata: String,
    /// The same as raw BSON, if it does not survive extended JSON. A field of ours, which `mongorestore` skips.
    pub(crate) exact: Option<Vec<u8>>,
    /// Its size as `mongodump` estimated it before the dump, which is 0.
    pub(crate) size: i64,
    pub(crate) kind: Kind,
}

/// The kind of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A collection. In archives made before 100.4, everything whose metadata says nothing else.
    Collection,
    /// A view: it has an end like every namespace, but no documents.
    View,
    /// A time series: its documents are its buckets.
    Timeseries,
}

impl Prelude {
    /// Writes everything before the first block. A failure writes nothing.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), FormatError> {
        let begin = out.len();
        let written = self.append(out);
        if written.is_err() {
            out.truncate(begin);
        }
        written
    }

    fn append(&self, out: &mut Vec<u8>) -> Result<(), FormatError> {
        if self.namespaces.len() > NAMESPACES_MAX {
            return Err(unwritable("so many namespaces"));
        }
        let begin = out.len();
        let mut names = HashSet::with_capacity(self.namespaces.len());
        out.extend(MAGIC);
        out.extend(self.header.to_bytes()?);
        for namespace in &self.namespaces {
            let name = namespace.data_collection(&self.header);
            if !names.insert((namespace.database.as_str(), name)) {
                return Err(unwritable("two namespaces of the same name"));
            }
            out.extend(namespace.to_bytes()?);
            if out.len() - begin > PRELUDE_BYTES_MAX {
                return Err(unwritable("so much metadata"));
            }
        }
        out.extend(TERMINATOR);
        Ok(())
    }
}

impl Header {
    fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        let document = rawdoc! {
            "concurrent_collections": self.concurrent_collections,
            "version": VERSION,
            "server_version": self.server_version.as_str(),
            "tool_version": self.tool_version.as_str(),
        };
        readable(document.into_bytes())
    }

    /// Parses a header, or returns what is wrong with it.
    pub(super) fn parse(document: &[u8], at: u64) -> Result<Self, FormatError> {
        let (mut collections, mut version, mut server, mut tool) = (None, None, None, None);
        let read = fields::each(document, |key, field| match key {
            "concurrent_collections" => fields::keep(&mut collections, fields::integer(field)),
            "version" => fields::keep(&mut version, fields::text(field)),
            "server_version" => fields::keep(&mut server, fields::text(field)),
            "tool_version" => fields::keep(&mut tool, fields::text(field)),
            _ => Ok(()),
        });
        let malformed = |what| FormatError::Malformed { what, at };
        read.map_err(malformed)?;
        let version = version.ok_or(malformed("a header without a version"))?;
        if version != VERSION {
            let version = version.chars().take(VERSION_CHARS_SHOWN).collect();
            return Err(FormatError::Version { version });
        }
        let collections = collections.ok_or(malformed("a header without its concurrency"))?;
        Ok(Self {
            concurrent_collections: i32::try_from(collections)
                .map_err(|_| malformed("an impossible concurrency"))?,
            server_version: server.unwrap_or_default().to_owned(),
            tool_version: tool.unwrap_or_default().to_owned(),
        })
    }
}

impl Namespace {
    /// Returns the collection that its documents are under, in an archive with this header.
    ///
    /// Differs from its name for a time series of a server before 8.3, by the rule that `mongorestore` follows too.
    pub(crate) fn data_collection(&self, header: &Header) -> Cow<'_, str> {
        match self.kind {
            Kind::Timeseries if major_minor(&header.server_version) < VIEWLESS_TIME_SERIES => {
                Cow::Owned(format!("system.buckets.{}", self.collection))
            }
            Kind::Collection | Kind::View | Kind::Timeseries => Cow::Borrowed(&self.collection),
        }
    }

    fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        check_names(&self.database, &self.collection).map_err(unwritable)?;
        let size = i32::try_from(self.size).map_or(RawBson::Int64(self.size), RawBson::Int32);
        let mut document = rawdoc! {
            "db": self.database.as_str(),
            "collection": self.collection.as_str(),
            "metadata": self.metadata.as_str(),
            "size": size,
            "type": self.kind.name(),
        };
        if let Some(exact) = &self.exact {
            let exact = RawDocumentBuf::from_bytes(exact.clone());
            let exact = exact.map_err(|_| unwritable("metadata that is not BSON"))?;
            document.append(bson::cstr!("lastgood_exact"), exact);
        }
        readable(document.into_bytes())
    }

    /// Parses a namespace, or returns what is wrong with it.
    pub(super) fn parse(document: &[u8]) -> Result<Self, &'static str> {
        let (mut database, mut collection, mut metadata) = (None, None, None);
        let (mut size, mut kind, mut exact) = (None, None, None);
        fields::each(document, |key, field| match key {
            "db" => fields::keep(&mut database, fields::text(field)),
            "collection" => fields::keep(&mut collection, fields::text(field)),
            "metadata" => fields::keep(&mut metadata, fields::text(field)),
            "lastgood_exact" => fields::keep(&mut exact, fields::document(field)),
            "size" => fields::keep(&mut size, fields::integer(field)),
            "type" => fields::keep(&mut kind, fields::text(field).and_then(Kind::parse)),
            _ => Ok(()),
        })?;
        let database = database.ok_or("a namespace without a database")?;
        let collection = collection.ok_or("a namespace without a collection")?;
        check_names(database, collection)?;
        Ok(Self {
            database: database.to_owned(),
            collection: collection.to_owned(),
            metadata: metadata.unwrap_or_default().to_owned(),
            exact,
            size: size.unwrap_or_default(),
            kind: kind.unwrap_or(Kind::Collection),
        })
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Collection => "collection",
            Self::View => "view",
            Self::Timeseries => "timeseries",
        }
    }

    fn parse(name: &str) -> Result<Self, &'static str> {
        match name {
            "" | "collection" => Ok(Self::Collection),
            "view" => Ok(Self::View),
            "timeseries" => Ok(Self::Timeseries),
            _ => Err("a namespace of an unknown type"),
        }
    }
}

/// Refuses names that no server has.
pub(super) fn check_names(database: &str, collection: &str) -> Result<(), &'static str> {
    if collection.is_empty() {
        return Err("a collection without a name");
    }
    if database.len() > NAME_BYTES_MAX || collection.len() > NAME_BYTES_MAX {
        return Err("a name of impossible length");
    }
    Ok(())
}

/// Parses `8.3.0-rc1` as 8 and 3. Anything that is not a number counts as 0, the oldest.
fn major_minor(version: &str) -> (u32, u32) {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|it| it.parse().ok());
    let major = next().unwrap_or(0);
    (major, next().unwrap_or(0))
}

fn readable(document: Vec<u8>) -> Result<Vec<u8>, FormatError> {
    if document.len() > PRELUDE_DOCUMENT_BYTES_MAX {
        return Err(unwritable("metadata of over 16 MiB for one namespace"));
    }
    Ok(document)
}

fn unwritable(what: &'static str) -> FormatError {
    FormatError::Unwritable { what }
}
