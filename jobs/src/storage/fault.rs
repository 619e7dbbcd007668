//! What does a store's failure mean, and what can be said about it?

mod network;

use std::{io, ops::RangeInclusive};

use opendal::ErrorKind;

use self::network::is_of_the_network;
use super::bucket::NoKeys;
use crate::{
    error::{JobError, StoreFault},
    printable::steers,
};

/// How much of a store's own message is kept.
const WORDS_MAX: usize = 400;

/// The name of a removal. A refused removal means something other than a refused read.
pub(super) const REMOVE: &str = "remove";
/// The name of the last step of a multipart upload.
pub(super) const PUT_TOGETHER: &str = "put together the parts of";

/// What a store's error code means, whatever was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The store does not know us, or not from here. Somebody has to fix that, and no object lock is involved.
    Unknown,
    /// The store denies this operation, or the bucket does not exist.
    Denied,
    /// An object lock protects the object that was to be removed.
    Locked,
    /// The store accepts our keys but cannot do this. A retry gives the same result.
    Unable,
    /// The store has no room left.
    Full,
    /// The failure passes, or is fixed without our help.
    Passing,
}

/// The one table of S3 error codes: code, meaning and advice. The first matching row counts.
///
/// `tests/faults.rs` tests it through a proxy for every verb.
const CODES: &[(&str, Meaning, &str)] = &[
    (
        "InvalidAccessKeyId",
        Meaning::Unknown,
        "correct AWS_ACCESS_KEY_ID",
    ),
    (
        "SignatureDoesNotMatch",
        Meaning::Unknown,
        "correct AWS_SECRET_ACCESS_KEY and the region",
    ),
    (
        "InvalidToken",
        Meaning::Unknown,
        "correct AWS_SESSION_TOKEN",
    ),
    (
        "AuthorizationHeaderMalformed",
        Meaning::Unknown,
        "the bucket is in another region: correct AWS_REGION",
    ),
    (
        "PermanentRedirect",
        Meaning::Unknown,
        "the bucket is in another region: correct AWS_REGION",
    ),
    (
        "NoSuchBucket",
        Meaning::Denied,
        "create the bucket, or correct its name",
    ),
    (
        "AllAccessDisabled",
        Meaning::Denied,
        "the provider has closed the bucket: ask it why",
    ),
    (
        "AccountProblem",
        Meaning::Denied,
        "the provider has closed the account: ask it why",
    ),
    // A wrong clock and an expired token are fixed without our help, so the next attempt may succeed.
    (
        "RequestTimeTooSkewed",
        Meaning::Passing,
        "this machine's clock is wrong: fix NTP",
    ),
    ("ExpiredToken", Meaning::Passing, "renew AWS_SESSION_TOKEN"),
    (
        "TokenRefreshRequired",
        Meaning::Passing,
        "renew AWS_SESSION_TOKEN",
    ),
    (
        "KMS.Throttling",
        Meaning::Passing,
        "the key service asks for fewer requests: a later attempt may succeed",
    ),
    (
        "KMS.",
        Meaning::Unable,
        "the key that the bucket is encrypted with cannot be used: enable it, and let these access keys use it",
    ),
    (
        "InvalidObjectState",
        Meaning::Unable,
        "it is in cold storage: restore it there first, and keep archives in a storage class that can be read at once",
    ),
    (
        "EntityTooLarge",
        Meaning::Unable,
        "the service does not accept an object of this size: check its limits",
    ),
    (
        "NotImplemented",
        Meaning::Unable,
        "the service does not support this request: see docs/how-to/stores.md for what a store must do",
    ),
    (
        "MethodNotAllowed",
        Meaning::Unable,
        "the service does not support this request: see docs/how-to/stores.md for what a store must do",
    ),
    ("ObjectLocked", Meaning::Locked, "an object lock holds it"),
    ("WORM", Meaning::Locked, "an object lock holds it"),
    ("QuotaExceeded", Meaning::Full, "raise the quota"),
    ("StorageFull", Meaning::Full, "make room there"),
    ("InsufficientStorage", Meaning::Full, "make room there"),
    (
        "SlowDown",
        Meaning::Passing,
        "the store asks for fewer requests: a later attempt may succeed",
    ),
    (
        "NoSuchUpload",
        Meaning::Passing,
        "somebody aborted the upload: check the bucket's lifecycle rules",
    ),
    (
        "BadDigest",
        Meaning::Passing,
        "bytes were changed in transit",
    ),
];

/// The meaning of an answer without a body, such as that to a HEAD, by its status alone. The first matching row counts.
const SILENT: &[(RangeInclusive<u16>, Meaning, &str)] = &[
    (
        401..=403,
        Meaning::Denied,
        "it gives no reason; keys that may not list the bucket get the same answer for a missing object",
    ),
    (
        429..=429,
        Meaning::Passing,
        "the store asks for fewer requests: a later attempt may succeed",
    ),
    (
        300..=499,
        Meaning::Passing,
        "the service refuses the request and gives no reason: check the region, the endpoint, and whether lent keys have expired",
    ),
    (
        500..=599,
        Meaning::Passing,
        "the store is busy or down: a later attempt may succeed",
    ),
];

pub(super) fn failure(doing: &'static str, key: &str, error: &opendal::Error) -> JobError {
    if let Some(none) =
        std::error::Error::source(error).and_then(|why| why.downcast_ref::<NoKeys>())
    {
        return without_keys(doing, key, none);
    }
    if let Some(cause) = innermost_io(error) {
        // A socket's error says nothing about the store's disk or rights.
        if !is_of_the_network(error) {
            return io_failure(doing, key, cause);
        }
    }
    let mut said = format!("{}: {}", error.kind(), error.message());
    if let Some(cause) = std::error::Error::source(error) {
        said = format!("{said}: {}", crate::error::chain(cause));
    }
    if let Some(advice) = network::advice(error) {
        return judged(doing, key, Meaning::Passing, Some(advice), words(&said));
    }
    let status = silent_status(error);
    let silent = SILENT
        .iter()
        .find(|(statuses, ..)| status.is_some_and(|status| statuses.contains(&status)));
    match (silent, status) {
        // A denied removal may come from an object lock.
        (Some((_, meaning, advice)), Some(status)) if doing != REMOVE => {
            let words = format!("status {status}, without a message");
            judged(doing, key, *meaning, Some(*advice), words)
        }
        _ => refused(doing, key, error.kind(), &said),
    }
}

/// Returns whether the store refused a request without giving a reason. It may give one for another kind of request.
pub(super) fn gives_no_reason(error: &opendal::Error) -> bool {
    silent_status(error).is_some_and(|status| (300..=499).contains(&status) && status != 429)
}

/// Returns the status of an answer without a body. `OpenDAL` gives it only in the text of its error.
fn silent_status(error: &opendal::Error) -> Option<u16> {
    if !error.message().is_empty() {
        return None;
    }
    let told = error.to_string();
    let (_, rest) = told.split_once("status: ")?;
    rest.get(..3)?.parse().ok()
}

/// Returns the error for a request that could not be signed.
pub(super) fn without_keys(doing: &'static str, key: &str, none: &NoKeys) -> JobError {
    let key = key.to_owned();
    let source = StoreFault(words(&none.to_string()));
    if none.may_pass {
        JobError::Store { doing, key, source }
    } else {
        JobError::StoreDenied {
            doing,
            key,
            may_pass: false,
            source,
        }
    }
}

/// Returns which step of a multipart upload failed: the last step reports the failures of earlier ones as well.
pub(super) fn step(error: &opendal::Error) -> Option<&'static str> {
    let said = error.to_string();
    let steps = [
        ("CreateMultipartUpload", "begin"),
        ("UploadPart", "send a part of"),
    ];
    let found = steps.iter().find(|(operation, _)| said.contains(operation));
    found.map(|(_, doing)| *doing)
}

/// Sorts a store's message into what an operator has to fix, and what a retry may do better.
pub(super) fn refused(doing: &'static str, key: &str, kind: ErrorKind, said: &str) -> JobError {
    let known = CODES.iter().find(|(code, ..)| said.contains(code));
    let (meaning, advice) = match (known, kind) {
        (Some((_, meaning, advice)), _) => (*meaning, Some(*advice)),
        (None, ErrorKind::PermissionDenied) if doing == REMOVE => (Meaning::Locked, None),
        (None, ErrorKind::PermissionDenied | ErrorKind::ConfigInvalid) => (Meaning::Denied, None),
        (None, _) => (Meaning::Passing, None),
    };
    judged(doing, key, meaning, advice, words(said))
}

/// Returns a store's message as it may be shown: shortened, and without control characters.
fn words(said: &str) -> String {
    said.chars()
        .map(|char| if steers(char) { ' ' } else { char })
        .take(WORDS_MAX)
        .collect()
}

fn judged(
    doing: &'static str,
    key: &str,
    meaning: Meaning,
    advice: Option<&'static str>,
    words: String,
) -> JobError {
    let key = key.to_owned();
    let source = StoreFault(words.clone());
    let advised = StoreFault(match advice {
        Some(advice) => format!("{advice} ({words})"),
        None => words,
    });
    match meaning {
        Meaning::Locked if doing == REMOVE => JobError::StoreRefuses { key, source },
        Meaning::Unknown | Meaning::Denied => JobError::StoreDenied {
            doing,
            key,
            // A store that denies this has already accepted the parts.
            may_pass: doing == PUT_TOGETHER,
            source: advised,
        },
        Meaning::Full => JobError::StoreFull { doing },
        Meaning::Unable => JobError::StoreUnable {
            doing,
            key,
            advice: advice.unwrap_or("see its message"),
            source,
        },
        Meaning::Locked | Meaning::Passing => JobError::Store {
            doing,
            key,
            source: advised,
        },
    }
}

pub(super) fn io_failure(doing: &'static str, key: &str, error: &io::Error) -> JobError {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    // A stream of a bucket's bytes wraps the bucket's error.
    if let Some(said) = wrapped(error) {
        return failure(doing, key, said);
    }
    let error = innermost_io(error).unwrap_or(error);
    let fault = || (key.to_owned(), StoreFault(error.to_string()));
    if matches!(error.kind(), StorageFull | QuotaExceeded) {
        return JobError::StoreFull { doing };
    }
    if doing == REMOVE && matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) {
        let (key, source) = fault();
        return JobError::StoreRefuses { key, source };
    }
    let (key, source) = fault();
    JobError::Store { doing, key, source }
}

/// Finds a store's error inside one of the system's.
fn wrapped(error: &io::Error) -> Option<&opendal::Error> {
    let mut next = error.get_ref().map(|inner| {
        let inner: &(dyn std::error::Error + 'static) = inner;
        inner
    });
    while let Some(inner) = next {
        if let Some(found) = inner.downcast_ref::<opendal::Error>() {
            return Some(found);
        }
        next = match inner
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => inner.source(),
        };
    }
    None
}

/// Finds the system's own error: opendal's and io errors wrap each other.
fn innermost_io<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut found = None;
    let mut next = Some(error);
    while let Some(error) = next {
        found = error.downcast_ref::<io::Error>().or(found);
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::key(
        "InvalidAccessKeyId",
        ErrorKind::PermissionDenied,
        "correct AWS_ACCESS_KEY_ID",
        true
    )]
    #[case::secret(
        "SignatureDoesNotMatch",
        ErrorKind::PermissionDenied,
        "correct AWS_SECRET",
        true
    )]
    #[case::bucket("NoSuchBucket", ErrorKind::ConfigInvalid, "create the bucket", true)]
    #[case::clock("RequestTimeTooSkewed", ErrorKind::PermissionDenied, "fix NTP", false)]
    #[case::token(
        "ExpiredToken",
        ErrorKind::Unexpected,
        "renew AWS_SESSION_TOKEN",
        false
    )]
    #[case::slow(
        "SlowDown",
        ErrorKind::RateLimited,
        "a later attempt may succeed",
        false
    )]
    #[case::other("InternalError", ErrorKind::Unexpected, "InternalError", false)]
    fn a_stores_refusal_says_what_to_mend_and_whether_to_wait(
        #[case] code: &str,
        #[case] kind: ErrorKind,
        #[case] advice: &str,
        #[case] permanent: bool,
    ) {
        let said = format!("S3Error {{ code: {code:?}, message: \"no\" }}");
        let error = refused("write", "v1/x", kind, &said);
        assert!(error.report().contains(advice), "{}", error.report());
        assert_eq!(error.is_permanent(), permanent, "{}", error.report());
    }

    #[rstest]
    #[case::lock(
        ErrorKind::PermissionDenied,
        "AccessDenied: object protected by object lock"
    )]
    #[case::worm(ErrorKind::Unexpected, "InvalidRequest: Object is WORM protected")]
    fn a_removal_that_a_lock_forbids_is_told_apart(#[case] kind: ErrorKind, #[case] said: &str) {
        let error = refused(REMOVE, "v1/x", kind, said);
        assert!(matches!(error, JobError::StoreRefuses { .. }), "{error:?}");
        let read_only = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        let error = io_failure(REMOVE, "v1/x", &read_only);
        assert!(matches!(error, JobError::StoreRefuses { .. }), "{error:?}");
    }

    #[rstest]
    #[case::key("InvalidAccessKeyId")]
    #[case::secret("SignatureDoesNotMatch")]
    #[case::token("InvalidToken")]
    #[case::region("AuthorizationHeaderMalformed")]
    fn wrong_keys_are_no_lock(#[case] code: &str) {
        let error = refused(REMOVE, "v1/x", ErrorKind::PermissionDenied, code);
        assert!(matches!(error, JobError::StoreDenied { .. }), "{error:?}");
    }

    #[test]
    fn a_stores_words_are_bounded() {
        let page = format!("<html>{}", "x".repeat(10_000));
        let error = refused("read", "v1/x", ErrorKind::Unexpected, &page);
        assert!(error.report().len() < 600);
    }
}
