//! What does a store's failure mean, and what may be said about it?

use std::io;

use opendal::ErrorKind;

use crate::error::{JobError, StoreFault};

/// More of a store's own words than this is noise.
const WORDS_MAX: usize = 400;

/// What was being done: a removal that is refused is another matter than a read.
pub(super) const REMOVE: &str = "remove";

/// What a store says to keys that are wrong, or of another region.
const UNKNOWN: [&str; 5] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
];

pub(super) fn failure(doing: &'static str, key: &str, error: &opendal::Error) -> JobError {
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
    refused(doing, key, error.kind(), &said)
}

/// Sorts what the store said into what an operator has to mend, and what another attempt may do better.
pub(super) fn refused(doing: &'static str, key: &str, kind: ErrorKind, said: &str) -> JobError {
    let key = key.to_owned();
    let source = StoreFault(advised(said));
    // The clock and a token that ran out are mended without us: the next attempt may find them so.
    let passes = ["RequestTimeTooSkewed", "ExpiredToken"];
    if passes.iter().any(|code| said.contains(code)) {
        return JobError::Store { doing, key, source };
    }
    let is_denied = matches!(kind, ErrorKind::PermissionDenied | ErrorKind::ConfigInvalid);
    // Who does not know us refuses everything: no lock holds this object.
    let is_unknown = UNKNOWN.iter().any(|code| said.contains(code));
    // Object locks of some stores answer "invalid request".
    let is_locked = kind == ErrorKind::PermissionDenied && !is_unknown
        || ["WORM", "ObjectLocked"]
            .iter()
            .any(|code| said.contains(code));
    if doing == REMOVE && is_locked {
        JobError::StoreRefuses { key, source }
    } else if is_denied {
        JobError::StoreDenied { doing, key, source }
    } else {
        JobError::Store { doing, key, source }
    }
}

pub(super) fn io_failure(doing: &'static str, key: &str, error: &io::Error) -> JobError {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
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

/// Returns the store's words, bounded, with what helps.
fn advised(said: &str) -> String {
    let mut words: String = said
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .take(WORDS_MAX)
        .collect();
    let advice = [
        (
            "RequestTimeTooSkewed",
            "this machine's clock is wrong: fix NTP",
        ),
        ("NoSuchBucket", "create the bucket, or correct its name"),
        ("InvalidAccessKeyId", "correct AWS_ACCESS_KEY_ID"),
        (
            "SignatureDoesNotMatch",
            "correct AWS_SECRET_ACCESS_KEY and the region",
        ),
        ("ExpiredToken", "renew AWS_SESSION_TOKEN"),
        (
            "PermanentRedirect",
            "the bucket is in another region: correct AWS_REGION",
        ),
        (
            "AuthorizationHeaderMalformed",
            "the bucket is in another region: correct AWS_REGION",
        ),
        (
            "SlowDown",
            "the store asks for fewer requests: it is tried again later",
        ),
    ];
    if let Some((_, advice)) = advice.iter().find(|(code, _)| said.contains(code)) {
        words = format!("{advice} ({words})");
    }
    words
}

fn is_of_the_network(error: &opendal::Error) -> bool {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if cause.is::<reqwest::Error>() {
            return true;
        }
        next = cause.source();
    }
    false
}

/// Finds the system's own error: opendal and io errors wrap each other.
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
    #[case::slow("SlowDown", ErrorKind::RateLimited, "tried again later", false)]
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
