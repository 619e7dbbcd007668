//! Turns what an archive says of a collection besides its documents into what a server accepts.

use bson::{Bson, Document, RawDocument, doc};
use serde_json::{Map, Value};
use uuid::Uuid;

/// Options that are in listings but that `create` does not take: the old name, and options that later versions
/// abolished.
///
/// `autoIndexId` has had no effect since 4.0: there always is an index on `_id`.
///
/// A temporary collection is dropped when its server starts, but restored data has to stay.
const NO_OPTIONS: [&str; 7] = [
    "temp",
    "create",
    "ns",
    "uuid",
    "autoIndexId",
    "idIndex",
    "recordIdsReplicated",
];
/// Index options that are in listings but that `createIndexes` does not take, or should choose again: the version of
/// the index format.
const NO_INDEX_OPTIONS: [&str; 3] = ["ns", "v", "dropDups"];

/// The options and indexes of one collection, view or time series.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Metadata {
    /// The options for `create`, besides the name.
    pub(super) options: Document,
    /// The indexes to build once the documents are there: all but those that come with the collection.
    pub(super) indexes: Vec<Document>,
    /// Tells the collection from others of the same name; views and time series have none.
    pub(super) uuid: Option<Uuid>,
    /// Whether its server would have dropped it by itself.
    pub(super) is_temporary: bool,
}

/// Parses the BSON that our archives have besides the extended JSON.
pub(super) fn of_exact(bytes: &[u8]) -> Result<Metadata, String> {
    // Not with the deserializer of `Document`, which takes what looks like extended JSON for it.
    let told = RawDocument::from_bytes(bytes).and_then(Document::try_from);
    let mut told = told.map_err(|error| error.to_string())?;
    let mut options = match told.remove("options") {
        Some(Bson::Document(options)) => options,
        Some(_) | None => Document::new(),
    };
    let is_temporary = strip(&mut options);
    let mut indexes = Vec::new();
    if let Some(Bson::Array(listed)) = told.remove("indexes") {
        for it in listed {
            let Bson::Document(it) = it else {
                return Err("an index: not a document".to_owned());
            };
            indexes.extend(index(it, &options)?);
        }
    }
    Ok(Metadata {
        options,
        indexes,
        uuid: told.get_str("uuid").ok().and_then(|it| it.parse().ok()),
        is_temporary,
    })
}

/// Parses canonical extended JSON. Keeps the order of keys, which matters in a compound index.
///
/// Leaves out the index on `_id`: `create` builds it, with the collation of the collection.
pub(super) fn parse(text: &str) -> Result<Metadata, String> {
    if text.is_empty() {
        return Ok(Metadata::default());
    }
    let mut json: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut options = match json.remove("options") {
        None | Some(Value::Null) => Document::new(),
        Some(options) => document(options, "options")?,
    };
    let is_temporary = strip(&mut options);
    let uuid = match json.get("uuid") {
        Some(Value::String(uuid)) => uuid.parse().ok(),
        Some(_) | None => None,
    };
    let listed = match json.remove("indexes") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(indexes)) => indexes,
        Some(_) => return Err("its indexes are not a list".to_owned()),
    };
    let mut indexes = Vec::new();
    for json in listed {
        indexes.extend(index(document(json, "an index")?, &options)?);
    }
    Ok(Metadata {
        options,
        indexes,
        uuid,
        is_temporary,
    })
}

/// Removes the options that `create` does not take. Returns whether the collection was temporary.
pub(super) fn strip(options: &mut Document) -> bool {
    let is_temporary = options.get_bool("temp").unwrap_or(false);
    for name in NO_OPTIONS {
        options.remove(name);
    }
    is_temporary
}

/// Returns an index as `createIndexes` takes it, for a collection with these options; `None` if it comes with the
/// collection.
pub(super) fn index(index: Document, options: &Document) -> Result<Option<Document>, String> {
    if comes_with_collection(&index) {
        return Ok(None);
    }
    to_build(index, has_collation(options)).map(Some)
}

fn document(json: Value, what: &str) -> Result<Document, String> {
    match Bson::try_from(json) {
        Ok(Bson::Document(document)) => Ok(document),
        Ok(_) => Err(format!("{what}: not a document")),
        Err(error) => Err(format!("{what}: {error}")),
    }
}

/// Returns an index as `createIndexes` takes it.
fn to_build(mut index: Document, has_collation: bool) -> Result<Document, String> {
    if index.get_str("name").is_err() || index.get_document("key").is_err() {
        return Err("an index without a name or a key".to_owned());
    }
    // Servers from 9.0 on list the simple collation; indexes of version 1 accept none.
    let is_first_version = number(&index, "v") == Some(1.0);
    if is_first_version && !has_collation && is_simple(&index) {
        index.remove("collation");
    }
    for name in NO_INDEX_OPTIONS {
        index.remove(name);
    }
    if has_collation && !index.contains_key("collation") {
        // Older servers do not list the simple collation. Without it, the index would get the collection's.
        index.insert("collation", doc! {"locale": "simple"});
    }
    Ok(index)
}

/// Returns whether this is the index on `_id` that every collection has, or the one that a collection is clustered by.
fn comes_with_collection(index: &Document) -> bool {
    if matches!(index.get_bool("clustered"), Ok(true)) {
        return true;
    }
    let Ok(key) = index.get_document("key") else {
        return false;
    };
    let is_on_id = key.len() == 1 && number(key, "_id") == Some(1.0);
    is_on_id && !index.contains_key("partialFilterExpression")
}

fn has_collation(options: &Document) -> bool {
    options.contains_key("collation") && !is_simple(options)
}

fn is_simple(of: &Document) -> bool {
    let locale = of.get_document("collation").map(|it| it.get_str("locale"));
    matches!(locale, Ok(Ok("simple")))
}

fn number(document: &Document, name: &str) -> Option<f64> {
    let value = document.get(name)?;
    let from_long = || value.as_i64().and_then(|it| i32::try_from(it).ok());
    let from_whole = || value.as_i32().or_else(from_long).map(f64::from);
    value.as_f64().or_else(from_whole)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_order_of_a_compound_key_and_the_types_in_it_are_kept() -> anyhow::Result<()> {
        let text = r#"{"indexes":[
            {"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_","ns":"a.b"},
            {"v":{"$numberInt":"2"},"key":{"z":{"$numberDouble":"1.0"},"a":{"$numberLong":"-1"},"m":"2dsphere"},
             "name":"z","unique":true,"partialFilterExpression":{"z":{"$gt":{"$date":{"$numberLong":"5"}}}}}]}"#;
        let metadata = parse(text).map_err(anyhow::Error::msg)?;
        let later = bson::DateTime::from_millis(5);
        let index = doc! {
            "key": {"z": 1.0, "a": -1_i64, "m": "2dsphere"}, "name": "z", "unique": true,
            "partialFilterExpression": {"z": {"$gt": later}},
        };
        assert_eq!(bytes(&metadata.indexes)?, bytes(&[index])?);
        Ok(())
    }

    fn bytes(documents: &[Document]) -> anyhow::Result<Vec<Vec<u8>>> {
        let bytes = documents.iter().map(bson::serialize_to_vec);
        Ok(bytes.collect::<Result<_, _>>()?)
    }

    #[rstest]
    #[case::no_collation(r#"{"indexes":[{"key":{"a":1},"name":"a"}]}"#, None)]
    #[case::inherited(
        r#"{"options":{"collation":{"locale":"fr"}},"indexes":[{"key":{"a":1},"name":"a"}]}"#,
        Some("simple")
    )]
    #[case::its_own(
        r#"{"options":{"collation":{"locale":"fr"}},"indexes":[{"key":{"a":1},"name":"a","collation":{"locale":"de"}}]}"#,
        Some("de")
    )]
    #[case::of_version_one(
        r#"{"indexes":[{"v":1,"key":{"a":1},"name":"a","collation":{"locale":"simple"}}]}"#,
        None
    )]
    fn an_index_keeps_the_collation_that_it_had(
        #[case] text: &str,
        #[case] locale: Option<&str>,
    ) -> anyhow::Result<()> {
        let metadata = parse(text).map_err(anyhow::Error::msg)?;
        let index = metadata.indexes.first().unwrap();
        let collation = index.get_document("collation").ok();
        assert_eq!(collation.map(|it| it.get_str("locale").unwrap()), locale);
        Ok(())
    }

    #[rstest]
    #[case::on_id(r#"{"key":{"_id":1},"name":"_id_"}"#, 0)]
    #[case::on_id_long(r#"{"key":{"_id":{"$numberLong":"1"}},"name":"_id_"}"#, 0)]
    #[case::clustered(r#"{"key":{"_id":1},"name":"mine","clustered":true,"unique":true}"#, 0)]
    #[case::on_id_down(r#"{"key":{"_id":-1},"name":"down"}"#, 1)]
    #[case::on_id_hashed(r#"{"key":{"_id":"hashed"},"name":"hashed"}"#, 1)]
    #[case::on_id_and_more(r#"{"key":{"_id":1,"a":1},"name":"more"}"#, 1)]
    fn what_comes_with_a_collection_is_not_built_again(
        #[case] index: &str,
        #[case] built: usize,
    ) -> anyhow::Result<()> {
        let text = format!(r#"{{"indexes":[{index}]}}"#);
        let metadata = parse(&text).map_err(anyhow::Error::msg)?;
        assert_eq!(metadata.indexes.len(), built);
        Ok(())
    }

    #[test]
    fn options_come_back_but_for_those_that_no_server_takes() -> anyhow::Result<()> {
        let text = r#"{"options":{"create":"c","uuid":{"$binary":{"base64":"AA==","subType":"00"}},"capped":true,
            "autoIndexId":false,"size":{"$numberDouble":"4096.0"},"validator":{"b":{"$regex":"^a","$options":"i"},"a":
            {"$type":"string"}}},"indexes":[],"uuid":"00","collectionName":"c","type":"collection"}"#;
        let metadata = parse(text).map_err(anyhow::Error::msg)?;
        let validator = doc! {"b": {"$regex": "^a", "$options": "i"}, "a": {"$type": "string"}};
        let options = doc! {"capped": true, "size": 4096.0, "validator": validator};
        assert_eq!(bytes(&[metadata.options])?, bytes(&[options])?);
        Ok(())
    }

    #[rstest]
    #[case::nothing("", true)]
    #[case::null_options(r#"{"options":null,"indexes":null}"#, true)]
    #[case::no_json("{", false)]
    #[case::no_object("[]", false)]
    #[case::indexes_no_list(r#"{"indexes":{}}"#, false)]
    #[case::index_without_name(r#"{"indexes":[{"key":{"a":1}}]}"#, false)]
    #[case::bad_number(r#"{"options":{"size":{"$numberInt":"x"}}}"#, false)]
    fn what_is_no_metadata_is_refused(#[case] text: &str, #[case] is_fine: bool) {
        assert_eq!(parse(text).is_ok(), is_fine);
    }
}
