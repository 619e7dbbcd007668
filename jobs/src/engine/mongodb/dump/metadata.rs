//! What an archive says of a collection besides its documents: canonical extended JSON, in the order the server told it.

use bson::{Binary, Bson, Document, spec::BinarySubtype};

/// Returns the metadata of a collection, view or time series, with the same fields as `mongodump` writes.
pub(super) fn of_collection(told: &Document, options: Document, indexes: Vec<Document>) -> String {
    let mut metadata = Document::new();
    if !options.is_empty() {
        metadata.insert("options", options);
    }
    metadata.insert("indexes", indexes);
    if let Some(uuid) = uuid(told) {
        metadata.insert("uuid", uuid);
    }
    for (from, to) in [("name", "collectionName"), ("type", "type")] {
        if let Some(value) = told.get(from) {
            metadata.insert(to, value.clone());
        }
    }
    Bson::Document(metadata)
        .into_canonical_extjson()
        .to_string()
}

/// Returns the collection's UUID as `mongodump` spells it: hex digits and nothing else.
pub(super) fn uuid(told: &Document) -> Option<String> {
    let info = told.get_document("info").ok()?;
    let Bson::Binary(Binary { subtype, bytes }) = info.get("uuid")? else {
        return None;
    };
    if *subtype != BinarySubtype::Uuid {
        return None;
    }
    let uuid = uuid::Uuid::from_slice(bytes).ok()?;
    Some(uuid.simple().to_string())
}
