//! Indexes, built once the documents are there; what happens where the server refuses one.

use bson::{Document, doc};

use super::{
    plan::Item,
    target::{refusal, run_long},
};
use crate::{
    engine::mongodb::{RestoreFault, session::Session},
    error::JobError,
};

const DOING: &str = "build indexes";

/// Builds an item's indexes on the collection that holds its documents, under its own or another name.
///
/// Returns the indexes that the server refused, for a reader to act on. An index never costs documents: a restore goes
/// on without one that only makes queries fast or documents expire. One that promises uniqueness is missed too late to
/// be mended, so without it the restore fails.
pub(super) async fn build(
    session: &Session,
    item: &Item,
    name: &str,
) -> Result<Vec<String>, JobError> {
    if item.indexes.is_empty() {
        return Ok(Vec::new());
    }
    // All in one command: the server reads the documents once.
    match build_these(session, item, name, &item.indexes).await {
        Ok(()) => return Ok(Vec::new()),
        Err(error) if refusal(&error).is_some() => {}
        Err(error) => return Err(error),
    }
    // None was built. One by one it shows which is refused.
    let mut refused = Vec::new();
    for index in &item.indexes {
        let built = build_these(session, item, name, std::slice::from_ref(index)).await;
        let Err(error) = built else { continue };
        refused.push(accept(item, index, error)?);
    }
    Ok(refused)
}

async fn build_these(
    session: &Session,
    item: &Item,
    name: &str,
    indexes: &[Document],
) -> Result<(), JobError> {
    let command = doc! {
        "createIndexes": name,
        "indexes": indexes,
        "writeConcern": {"w": "majority"},
    };
    run_long(session, DOING, &item.database, command)
        .await
        .map(|_| ())
}

/// Returns what to tell of an index that was refused; an error where the restore cannot do without it.
fn accept(item: &Item, index: &Document, error: JobError) -> Result<String, JobError> {
    let Some(source) = refusal(&error) else {
        return Err(error);
    };
    let (namespace, name) = (item.namespace(), index.get_str("name").unwrap_or_default());
    if matches!(index.get_bool("unique"), Ok(true)) {
        return Err(RestoreFault::IndexRefused {
            namespace,
            index: name.to_owned(),
            source: source.clone(),
        }
        .into());
    }
    Ok(format!(
        "index {name:?} of {namespace} was not built, because the server refused it: {source}. All documents are there; \
         create the index by hand: {}",
        bson::Bson::from(index.clone()).into_relaxed_extjson()
    ))
}
