//! What an archive says of a collection besides its documents: canonical extended JSON, in the server's order.

use bson::{Binary, Bson, Document, spec::BinarySubtype};

/// What an archive says of a collection.
pub(super) struct Metadata {
    /// Canonical extended JSON.
    pub(super) text: String,
    /// The original BSON, if it does not survive the way through JSON: a customer's own document `{$oid: …}` would come
    /// back as an `ObjectId`.
    pub(super) exact: Option<Vec<u8>>,
}

/// Returns the metadata of a collection, view or time series, with the fields that `mongodump` writes.
pub(super) fn of_collection(
    told: &Document,
    options: Document,
    indexes: Vec<Document>,
) -> Result<Metadata, bson::error::Error> {
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
    let own = bson::serialize_to_vec(&metadata)?;
    let json = Bson::Document(metadata).into_canonical_extjson();
    let text = json.to_string();
    let back = match Bson::try_from(json) {
        Ok(Bson::Document(back)) => bson::serialize_to_vec(&back).ok(),
        Ok(_) | Err(_) => None,
    };
    let exact = (back.as_ref() != Some(&own)).then_some(own);
    Ok(Metadata { text, exact })
}

/// Returns the collection's UUID as `mongodump` spells it: hex digits only.
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

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn what_looks_like_extended_json_is_kept_beside_it() -> anyhow::Result<()> {
        let like =
            doc! {"viewOn": "a", "pipeline": [{"$set": {"x": {"$literal": {"$numberInt": "5"}}}}]};
        let told = of_collection(&doc! {"name": "v"}, like.clone(), Vec::new())?;
        let exact = told.exact.unwrap();
        let exact = Document::try_from(bson::RawDocument::from_bytes(&exact)?)?;
        assert_eq!(exact.get_document("options")?, &like);
        let plain = doc! {"validator": {"a": {"$gt": 5_i64, "$type": "double"}, "at": bson::DateTime::from_millis(-1)}};
        assert!(
            of_collection(&doc! {"name": "c"}, plain, Vec::new())?
                .exact
                .is_none()
        );
        Ok(())
    }
}
