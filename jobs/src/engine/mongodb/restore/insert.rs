//! Inserts one batch into one collection, and checks the server's answer.

use std::time::Duration;

use bson::{Bson, Document};
use mongodb::Client;

use super::{
    batch::{Batch, Destination, Doubles},
    target::fault,
};
use crate::{
    engine::mongodb::session::{self, answer_within},
    error::{JobError, RestoreFault, ServerFault},
};

/// How long a batch may take: some seconds on the server, and the time it may wait for its members.
const INSERT_TIMEOUT: Duration = Duration::from_mins(5);
const DOING: &str = "insert documents";

/// A batch that the server has confirmed.
#[derive(Debug)]
pub(super) struct Inserted {
    pub(super) place: usize,
    /// How many of its documents exist now, including those that already existed.
    pub(super) documents: u64,
    /// How many of them already existed.
    pub(super) doubles: u64,
    /// How much memory it took.
    pub(super) bytes: usize,
}

/// Inserts one batch. Anything less than the whole batch is a failure.
///
/// Never sent twice: if the answer is lost, nobody knows what happened to the batch, and the attempt ends.
pub(super) async fn insert(
    client: Client,
    destination: Destination,
    batch: Batch,
) -> Result<Inserted, JobError> {
    let (place, documents, bytes) = (batch.place, batch.documents as u64, batch.bytes());
    let command = batch.into_command().map_err(|error| JobError::Statement {
        doing: DOING,
        source: ServerFault::new(error.to_string(), None),
    })?;
    let database = client.database(&destination.database);
    let answer = answer_within(INSERT_TIMEOUT, DOING, database.run_raw_command(command)).await;
    let answer = answer.map_err(|error| refused_by(&destination, error))?;
    let doubles = judge(&destination, documents, &answer)?;
    Ok(Inserted {
        place,
        documents,
        doubles,
        bytes,
    })
}

impl Destination {
    /// Returns `database.collection`.
    pub(super) fn namespace(&self) -> String {
        format!("{}.{}", self.database, self.collection)
    }
}

/// Names the collection in the error if the server refused the whole command.
fn refused_by(destination: &Destination, error: JobError) -> JobError {
    if let JobError::Statement { source, .. } = error {
        let namespace = destination.namespace();
        return RestoreFault::DocumentsRefused { namespace, source }.into();
    }
    error
}

/// The document's `_id`, or the key of a unique index, already exists.
const DUPLICATE_KEY: i64 = 11_000;

/// Returns how many documents already existed, or what is wrong with an answer to a command that succeeded.
fn judge(destination: &Destination, sent: u64, answer: &Document) -> Result<u64, RestoreFault> {
    let namespace = destination.namespace();
    let told = answer.get_array("writeErrors").ok();
    let mut refused = told.into_iter().flatten().filter_map(Bson::as_document);
    let is_double = |it: &Document| {
        destination.doubles == Doubles::Passed && session::number(it, "code") == Some(DUPLICATE_KEY)
    };
    let all = refused.clone().count();
    let first = refused.find(|it| !is_double(it));
    let doubles = if first.is_none() { all as u64 } else { 0 };
    let unconfirmed = || answer.get_document("writeConcernError").ok();
    if let Some(told) = first.or_else(unconfirmed) {
        let source = fault(told);
        return Err(RestoreFault::DocumentsRefused { namespace, source });
    }
    let found = session::number(answer, "n").and_then(|it| u64::try_from(it).ok());
    let found = found.unwrap_or_default() + doubles;
    if found == sent {
        return Ok(doubles);
    }
    Err(RestoreFault::CountDiffers {
        namespace,
        expected: sent,
        found,
    })
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use rstest::rstest;

    use super::*;
    use crate::engine::mongodb::restore::batch::{EmptyTimestamps, Order, Rules, Stored};

    #[rstest]
    #[case::all(doc! {"n": 2}, None)]
    #[case::fewer(doc! {"n": 1}, Some("has 1 of its 2 documents"))]
    #[case::no_number(doc! {}, Some("has 0 of its 2 documents"))]
    #[case::one_refused(
        doc! {"n": 1, "writeErrors": [{"index": 0, "code": 11000, "errmsg": "E11000 duplicate key"}]},
        Some("MongoDB error 11000")
    )]
    #[case::not_confirmed(
        doc! {"n": 2, "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
        Some("MongoDB error 64")
    )]
    fn whatever_is_not_a_whole_batch_is_a_failure(
        #[case] answer: Document,
        #[case] told: Option<&str>,
    ) {
        let destination = Destination {
            database: "a".to_owned(),
            collection: "b".to_owned(),
            order: Order::Any,
            stored: Stored::AsDocuments,
            empty_timestamps: EmptyTimestamps::Kept,
            rules: Rules::None,
            doubles: Doubles::Refused,
        };
        let error = judge(&destination, 2, &answer).err().map(JobError::from);
        let report = error.map(|error| error.report());
        assert_eq!(report.is_some(), told.is_some(), "{report:?}");
        if let (Some(report), Some(told)) = (report, told) {
            assert!(report.contains(told) && report.contains("a.b"), "{report}");
        }
    }

    #[test]
    fn a_double_is_passed_where_documents_may_have_been_read_twice() {
        let destination = Destination {
            database: "a".to_owned(),
            collection: "b".to_owned(),
            order: Order::Any,
            stored: Stored::AsDocuments,
            empty_timestamps: EmptyTimestamps::Kept,
            rules: Rules::None,
            doubles: Doubles::Passed,
        };
        let refused = |code: i32| doc! {"index": 0, "code": code, "errmsg": "no"};
        let answer = doc! {"n": 1, "writeErrors": [refused(11_000)]};
        assert_eq!(judge(&destination, 2, &answer).ok(), Some(1));
        let answer = doc! {"n": 0, "writeErrors": [refused(11_000), refused(121)]};
        assert!(judge(&destination, 2, &answer).is_err());
    }
}
