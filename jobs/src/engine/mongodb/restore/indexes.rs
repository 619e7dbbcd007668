//! Builds indexes once the documents are there, and decides what happens if the server refuses one.

use bson::{Document, doc};

use super::{
    plan::Item,
    target::{refusal, run_long},
};
use crate::{
    engine::mongodb::session::Session,
    error::{JobError, RestoreFault},
};

const DOING: &str = "build indexes";

/// Builds an item's indexes on the collection that holds its documents, under its own or another name.
///
/// Returns the indexes that the server refused, for an operator to build by hand, and notes about others. An index
/// never costs documents: the restore continues without one that only makes queries fast or lets documents expire. A
/// missing unique index would be noticed too late, when duplicates exist, so without it the restore fails.
pub(super) async fn build(
    session: &Session,
    item: &Item,
    name: &str,
) -> Result<(Vec<String>, Vec<String>), JobError> {
    if item.indexes.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    // All in one command, so that the server reads the documents only once.
    match build_these(session, item, name, &item.indexes, Unknown::Refused).await {
        Ok(()) => return Ok((Vec::new(), Vec::new())),
        Err(error) if refusal(&error).is_some() => {}
        Err(error) => return Err(error),
    }
    // None was built. Building them one by one shows which is refused.
    let (mut refused, mut notes) = (Vec::new(), Vec::new());
    for index in &item.indexes {
        let one = std::slice::from_ref(index);
        let built = build_these(session, item, name, one, Unknown::Refused).await;
        let Err(error) = built else { continue };
        if refusal(&error).is_none() {
            return Err(error);
        }
        // Older servers accepted any option and listed it from then on.
        if build_these(session, item, name, one, Unknown::LeftOut)
            .await
            .is_ok()
        {
            notes.push(format!(
                "index {:?} of {} has options that this server does not know, and was built without them: {}",
                index.get_str("name").unwrap_or_default(),
                item.namespace(),
                bson::Bson::from(index.clone()).into_relaxed_extjson()
            ));
            continue;
        }
        refused.push(accept(item, index, error)?);
    }
    Ok((refused, notes))
}

/// What happens to an index option that the server does not know.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Refused,
    LeftOut,
}

async fn build_these(
    session: &Session,
    item: &Item,
    name: &str,
    indexes: &[Document],
    unknown: Unknown,
) -> Result<(), JobError> {
    let mut command = doc! {
        "createIndexes": name,
        "indexes": indexes,
        "writeConcern": {"w": "majority"},
    };
    if unknown == Unknown::LeftOut {
        command.insert("ignoreUnknownIndexOptions", true);
    }
    run_long(session, DOING, &item.database, command)
        .await
        .map(|_| ())
}

/// Returns the note about a refused index, or an error if the restore cannot do without the index.
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
