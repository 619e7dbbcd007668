//! What an error of the driver means, by its kind or the server's code, never by its message.

use mongodb::error::{Error, ErrorKind, WriteFailure};

use super::wire::{REFUSED as NOT_READ, SAID_BY_US};
use crate::error::{JobError, MongodbError, ServerFault};

/// Wrong user or password, or a network from which the user may not connect.
const REFUSED: [i32; 3] = [11, 18, 8000];
/// `Unauthorized`: a privilege is missing.
const DENIED: i32 = 13;
/// The server is shutting down or stepping down, has lost touch with the other members, or does not have the role we
/// need yet.
const AWAY: [i32; 15] = [
    6, 7, 89, 91, 133, 134, 189, 262, 9001, 10058, 10107, 11600, 11602, 13435, 13436,
];
/// How many characters of a driver's or server's message are kept.
const CHARS_SHOWN: usize = 600;

/// Returns what an error means. Never repeats a URL or a password: the driver's messages here contain neither.
pub(crate) fn meaning(doing: &'static str, error: &Error) -> JobError {
    let (code, source) = (code_of(error), fault(error));
    if matches!(*error.kind, ErrorKind::Authentication { .. }) {
        return JobError::Refused(source);
    }
    if matches!(*error.kind, ErrorKind::InvalidTlsConfig { .. }) {
        return refused_options();
    }
    match code {
        Some(NOT_READ) => {
            let what = source.to_string();
            MongodbError::Unbelievable { what }.into()
        }
        Some(code) if REFUSED.contains(&code) => JobError::Refused(source),
        Some(DENIED) => JobError::Denied { doing, source },
        Some(code) if AWAY.contains(&code) => JobError::Unreachable { doing, source },
        None if is_of_connection(error) => JobError::Unreachable { doing, source },
        Some(_) | None => JobError::Statement { doing, source },
    }
}

/// Returns what an error means that occurred before any server was contacted. The driver's messages about options may
/// quote them.
pub(crate) fn meaning_of_options(doing: &'static str, error: &Error) -> JobError {
    if matches!(*error.kind, ErrorKind::InvalidArgument { .. }) {
        return refused_options();
    }
    meaning(doing, error)
}

fn refused_options() -> JobError {
    let why = "the driver refuses its options: check that the files that they name can be read, and that they do not \
               contradict each other";
    MongodbError::Address {
        why: why.to_owned(),
    }
    .into()
}

/// Returns the server's code, if the error came from a server.
pub(crate) fn code_of(error: &Error) -> Option<i32> {
    told(error).0
}

/// Returns the message, and the server's code for it.
pub(crate) fn fault(error: &Error) -> ServerFault {
    let (code, said) = told(error);
    ServerFault::new(shortened(said), code.map(|code| code.to_string()))
}

fn told(error: &Error) -> (Option<i32>, String) {
    let coded = |code: i32, name: &str, message: &str| {
        let said = match name {
            "" => format!("{message} (MongoDB error {code})"),
            SAID_BY_US => message.to_owned(),
            name => format!("{message} (MongoDB error {code}, {name})"),
        };
        (Some(code), said)
    };
    if let ErrorKind::Command(it) = &*error.kind {
        return coded(it.code, &it.code_name, &it.message);
    }
    if let ErrorKind::Write(failure) = &*error.kind {
        if let WriteFailure::WriteConcernError(it) = failure {
            return coded(it.code, &it.code_name, &it.message);
        }
        if let WriteFailure::WriteError(it) = failure {
            return coded(
                it.code,
                it.code_name.as_deref().unwrap_or_default(),
                &it.message,
            );
        }
    }
    if let ErrorKind::Io(it) = &*error.kind {
        return (None, it.to_string());
    }
    (None, error.kind.to_string())
}

/// Returns whether the connection itself failed, as opposed to what was sent over it.
fn is_of_connection(error: &Error) -> bool {
    matches!(
        *error.kind,
        ErrorKind::Io(_)
            | ErrorKind::ServerSelection { .. }
            | ErrorKind::ConnectionPoolCleared { .. }
            | ErrorKind::DnsResolve { .. }
            | ErrorKind::ProxyConnect { .. }
            | ErrorKind::Shutdown
    )
}

fn shortened(mut said: String) -> String {
    if let Some((at, _)) = said.char_indices().nth(CHARS_SHOWN) {
        said.truncate(at);
        said.push('…');
    }
    said
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use rstest::rstest;

    use super::*;

    fn command(code: i32) -> Error {
        let told = doc! {"code": code, "codeName": "Name", "errmsg": "no"};
        ErrorKind::Command(bson::deserialize_from_document(told).unwrap()).into()
    }

    #[rstest]
    #[case::password(command(18), "auth", true, Some("18"))]
    #[case::privilege(command(13), "auth", true, Some("13"))]
    #[case::shutdown(command(91), "connect", false, Some("91"))]
    #[case::stepped_down(command(10107), "connect", false, Some("10107"))]
    #[case::other(command(59), "internal", false, Some("59"))]
    #[case::broken(std::io::Error::other("broke").into(), "connect", false, None)]
    fn an_error_means_what_its_code_says(
        #[case] error: Error,
        #[case] kind: &str,
        #[case] is_permanent: bool,
        #[case] code: Option<&str>,
    ) {
        let means = meaning("list the collections", &error);
        assert_eq!(
            (means.kind().as_str(), means.is_permanent()),
            (kind, is_permanent)
        );
        assert!(!means.report().contains("pg_hba"), "{}", means.report());
        assert_eq!(code_of(&error).map(|it| it.to_string()).as_deref(), code);
        let source = std::error::Error::source(&means).unwrap();
        let fault = source.downcast_ref::<ServerFault>().unwrap();
        assert_eq!(fault.code(), code);
    }

    #[test]
    fn a_long_story_is_cut() {
        assert_eq!(
            shortened("ä".repeat(10_000)).chars().count(),
            CHARS_SHOWN + 1
        );
        assert_eq!(shortened("short".to_owned()), "short");
    }
}
