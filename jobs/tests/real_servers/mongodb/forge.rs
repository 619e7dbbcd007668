//! Archives as `mongodump` writes them, made by code independent of the code under test.

use anyhow::{Context as _, Result};
use bson::{Bson, Document, RawDocumentBuf, doc};
use crc_fast::{CrcAlgorithm, checksum};
use futures::TryStreamExt as _;
use mongodb::Database;

const MAGIC: [u8; 4] = [0x6d, 0xe2, 0x99, 0x81];
const MARK: [u8; 4] = [0xff; 4];

/// An archive under construction.
#[derive(Default)]
pub(crate) struct Forge {
    namespaces: Vec<Namespace>,
}

struct Namespace {
    told: Document,
    documents: Vec<RawDocumentBuf>,
}

impl Forge {
    /// Adds a namespace. The metadata is a document here, and JSON in `mongodump`.
    pub(crate) fn add(
        mut self,
        database: &str,
        collection: &str,
        metadata: &Document,
        documents: Vec<RawDocumentBuf>,
    ) -> Self {
        let metadata = Bson::Document(metadata.clone()).into_canonical_extjson();
        let is_view = metadata.pointer("/options/viewOn").is_some();
        let told = doc! {
            "db": database, "collection": collection, "metadata": metadata.to_string(), "size": 0,
            "type": if is_view { "view" } else { "collection" },
        };
        self.namespaces.push(Namespace { told, documents });
        self
    }

    /// Adds a plain collection with documents `{_id: 1}` and so on.
    pub(crate) fn plain(self, database: &str, collection: &str, documents: i32) -> Self {
        let documents = (1..=documents).map(|n| bson::rawdoc! {"_id": n, "of": collection});
        self.add(database, collection, &doc! {}, documents.collect())
    }

    /// Adds everything in a database, as the server describes it.
    pub(crate) async fn database(mut self, database: &Database) -> Result<Self> {
        let list = doc! {"listCollections": 1};
        let mut found: Vec<Document> = database
            .run_cursor_command(list)
            .await?
            .try_collect()
            .await?;
        found.sort_by_key(|it| it.get_str("name").unwrap_or_default().to_owned());
        for mut told in found {
            let name = told.get_str("name")?.to_owned();
            if name == "system.views" {
                // It may not be read, and the views themselves show its contents.
                continue;
            }
            let mut metadata = doc! {"options": told.remove("options").context("no options")?};
            let mut documents = Vec::new();
            if told.get_str("type")? != "view" {
                let list = doc! {"listIndexes": &name};
                let indexes: Vec<Document> = database
                    .run_cursor_command(list)
                    .await?
                    .try_collect()
                    .await?;
                metadata.insert("indexes", indexes);
                let collection = database.collection::<RawDocumentBuf>(&name);
                documents = collection.find(doc! {}).await?.try_collect().await?;
            }
            self = self.add(database.name(), &name, &metadata, documents);
        }
        Ok(self)
    }

    /// Returns the archive. A namespace with two or more documents is split into two blocks.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        let mut archive = MAGIC.to_vec();
        let header = doc! {
            "concurrent_collections": 4, "version": "0.1", "server_version": "8.0.4", "tool_version": "100.12.0",
        };
        archive.extend(bson::serialize_to_vec(&header)?);
        for namespace in &self.namespaces {
            archive.extend(bson::serialize_to_vec(&namespace.told)?);
        }
        archive.extend(MARK);
        let halves = |it: &Namespace| it.documents.len().div_ceil(2);
        for namespace in &self.namespaces {
            let (first, _) = namespace.documents.split_at(halves(namespace));
            block(&mut archive, namespace, first)?;
        }
        for namespace in &self.namespaces {
            let (_, second) = namespace.documents.split_at(halves(namespace));
            block(&mut archive, namespace, second)?;
            let all: Vec<u8> = namespace
                .documents
                .iter()
                .flat_map(|it| it.as_bytes().to_vec())
                .collect();
            #[expect(clippy::cast_possible_wrap, reason = "the format has it so")]
            let sum = checksum(CrcAlgorithm::Crc64Xz, &all) as i64;
            archive.extend(head(namespace, true, sum)?);
            archive.extend(MARK);
        }
        Ok(archive)
    }
}

fn block(archive: &mut Vec<u8>, namespace: &Namespace, documents: &[RawDocumentBuf]) -> Result<()> {
    archive.extend(head(namespace, false, 0)?);
    for document in documents {
        archive.extend(document.as_bytes());
    }
    archive.extend(MARK);
    Ok(())
}

fn head(namespace: &Namespace, is_end: bool, checksum: i64) -> Result<Vec<u8>> {
    let (database, collection) = (namespace.told.get("db"), namespace.told.get("collection"));
    let head = doc! {"db": database, "collection": collection, "EOF": is_end, "CRC": checksum};
    Ok(bson::serialize_to_vec(&head)?)
}
