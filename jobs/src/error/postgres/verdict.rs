//! What a server's SQLSTATE or a tool's message means for the next attempt: the one table of both.
//!
//! The server's codes are the same in every language. The tools' messages are English, because they run without a
//! locale, but they quote the server's, which are in the server's language. An unknown message means that a retry may
//! help: that costs attempts, never a promise.

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The role, its password or a host-based rule is wrong.
    Refused,
    /// A privilege is missing.
    Denied,
    /// The server is away, starting or full, or has ended our session.
    Unreachable,
    /// A retry may help.
    Passing,
    /// No retry helps before somebody changes something.
    Final,
}

/// Verdicts by SQLSTATE. Two characters stand for a whole class; a full code precedes its class. Codes that are not
/// listed are `Passing`.
const CODES: [(&str, Verdict); 38] = [
    // The connection broke, or the other end does not speak the protocol.
    ("08", Verdict::Unreachable),
    // The server does not have the feature or the file.
    ("0A000", Verdict::Final),
    ("58P01", Verdict::Final),
    // Invalid values, of settings for example.
    ("22", Verdict::Final),
    ("23", Verdict::Final),
    // A standby, or a role with default_transaction_read_only.
    ("25006", Verdict::Final),
    // The session was ended: idle in a transaction, or by transaction_timeout.
    ("25P03", Verdict::Unreachable),
    ("25P04", Verdict::Unreachable),
    ("28", Verdict::Refused),
    ("3D000", Verdict::Final),
    ("3F000", Verdict::Final),
    // Serialization failure, deadlock, or a standby's conflict with its replay.
    ("40", Verdict::Passing),
    ("42501", Verdict::Denied),
    // Names that appear and disappear while others work there.
    ("42704", Verdict::Passing),
    ("42710", Verdict::Passing),
    ("42P01", Verdict::Passing),
    ("42P04", Verdict::Passing),
    ("42P06", Verdict::Passing),
    ("42P07", Verdict::Passing),
    // The rest of the class rejects the statement itself: one of ours that this server does not know.
    ("42", Verdict::Final),
    // Out of connections, memory or disk.
    ("53", Verdict::Unreachable),
    ("54", Verdict::Final),
    ("55006", Verdict::Passing),
    ("55P02", Verdict::Final),
    ("55P03", Verdict::Passing),
    ("55P04", Verdict::Passing),
    ("57014", Verdict::Passing),
    // The server was shut down, crashed or is starting, or idle_session_timeout ended the session.
    ("57P01", Verdict::Unreachable),
    ("57P02", Verdict::Unreachable),
    ("57P03", Verdict::Unreachable),
    // The database was dropped while we used it.
    ("57P04", Verdict::Unreachable),
    ("57P05", Verdict::Unreachable),
    ("58", Verdict::Passing),
    ("72", Verdict::Passing),
    ("F0", Verdict::Final),
    ("XX001", Verdict::Final),
    ("XX002", Verdict::Final),
    ("XX", Verdict::Passing),
];

/// Verdicts by messages of `pg_dump` and `pg_restore`. The first match counts, so what passes comes before what does
/// not.
const WORDS: [(&str, Verdict); 29] = [
    ("due to conflict with recovery", Verdict::Passing),
    ("due to lock timeout", Verdict::Passing),
    ("due to user request", Verdict::Passing),
    ("due to administrator command", Verdict::Unreachable),
    ("deadlock detected", Verdict::Passing),
    ("could not serialize access", Verdict::Passing),
    (
        "server closed the connection unexpectedly",
        Verdict::Unreachable,
    ),
    ("could not receive data from server", Verdict::Unreachable),
    ("could not send data to server", Verdict::Unreachable),
    ("SSL SYSCALL error", Verdict::Unreachable),
    ("no connection to the server", Verdict::Unreachable),
    ("the database system is", Verdict::Unreachable),
    ("too many clients already", Verdict::Unreachable),
    (
        "remaining connection slots are reserved",
        Verdict::Unreachable,
    ),
    ("out of memory", Verdict::Passing),
    ("out of shared memory", Verdict::Passing),
    ("No space left on device", Verdict::Passing),
    ("cache lookup failed", Verdict::Passing),
    ("password authentication failed", Verdict::Refused),
    ("no pg_hba.conf entry", Verdict::Refused),
    (ROW_SECURITY, Verdict::Denied),
    ("permission denied for", Verdict::Denied),
    ("must be superuser", Verdict::Denied),
    ("must be owner of", Verdict::Denied),
    (
        "aborting because of server version mismatch",
        Verdict::Final,
    ),
    ("invalid page in block", Verdict::Final),
    ("missing chunk number", Verdict::Final),
    ("could not access file", Verdict::Final),
    ("certificate verify failed", Verdict::Final),
];

/// What the server tells `pg_dump` if policies hide rows from it.
pub(crate) const ROW_SECURITY: &str = "query would be affected by row-level security policy";

impl Verdict {
    /// Returns the verdict on an SQLSTATE.
    pub(crate) fn of(code: Option<&str>) -> Self {
        let Some(code) = code else {
            return Self::Passing;
        };
        let fits = |(known, _): &&(&str, Self)| code.starts_with(known);
        CODES
            .iter()
            .find(fits)
            .map_or(Self::Passing, |(_, verdict)| *verdict)
    }

    /// Returns the verdict on a tool's message.
    pub(crate) fn of_words(said: &str) -> Self {
        let fits = |(known, _): &&(&str, Self)| said.contains(known);
        WORDS
            .iter()
            .find(fits)
            .map_or(Self::Passing, |(_, verdict)| *verdict)
    }

    /// Returns whether no retry can help.
    pub(crate) fn is_final(self) -> bool {
        match self {
            Self::Refused | Self::Denied | Self::Final => true,
            Self::Unreachable | Self::Passing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// A failure that no retry can mend is tried once; one that passes is tried again.
    #[rstest]
    #[case::no_code(None, Verdict::Passing)]
    #[case::password(Some("28P01"), Verdict::Refused)]
    #[case::host_based_rule(Some("28000"), Verdict::Refused)]
    #[case::privilege(Some("42501"), Verdict::Denied)]
    #[case::shut_down(Some("57P01"), Verdict::Unreachable)]
    #[case::idle(Some("57P05"), Verdict::Unreachable)]
    #[case::full(Some("53300"), Verdict::Unreachable)]
    #[case::protocol(Some("08P01"), Verdict::Unreachable)]
    #[case::recovery_conflict(Some("40001"), Verdict::Passing)]
    #[case::deadlock(Some("40P01"), Verdict::Passing)]
    #[case::lock(Some("55P03"), Verdict::Passing)]
    #[case::in_use(Some("55006"), Verdict::Passing)]
    #[case::cancelled(Some("57014"), Verdict::Passing)]
    #[case::name_taken(Some("42P04"), Verdict::Passing)]
    #[case::syntax(Some("42601"), Verdict::Final)]
    #[case::no_function(Some("42883"), Verdict::Final)]
    #[case::read_only(Some("25006"), Verdict::Final)]
    #[case::no_feature(Some("0A000"), Verdict::Final)]
    #[case::no_file(Some("58P01"), Verdict::Final)]
    #[case::disk(Some("58030"), Verdict::Passing)]
    #[case::corrupt(Some("XX001"), Verdict::Final)]
    #[case::bug(Some("XX000"), Verdict::Passing)]
    #[case::unknown(Some("ZZ999"), Verdict::Passing)]
    fn every_code_is_sorted(#[case] code: Option<&str>, #[case] verdict: Verdict) {
        assert_eq!(Verdict::of(code), verdict);
    }

    #[rstest]
    #[case::policies(
        "pg_dump: error: query failed: ERROR:  query would be affected by row-level security policy for table \"t\"",
        true
    )]
    #[case::privilege(
        "pg_dump: error: query failed: ERROR:  permission denied for table t",
        true
    )]
    #[case::version("pg_dump: error: aborting because of server version mismatch", true)]
    #[case::corrupt(
        "pg_dump: error: Dumping the contents of table \"t\" failed: ERROR:  invalid page in block 7",
        true
    )]
    #[case::standby("ERROR:  canceling statement due to conflict with recovery", false)]
    #[case::lock("ERROR:  canceling statement due to lock timeout", false)]
    #[case::gone("server closed the connection unexpectedly", false)]
    #[case::in_another_language("FEHLER:  keine Berechtigung für Tabelle t", false)]
    // What passes is believed first: a server that was shut down says both.
    #[case::both(
        "permission denied for table t | the database system is shutting down",
        false
    )]
    fn every_word_is_sorted(#[case] said: &str, #[case] is_final: bool) {
        assert_eq!(Verdict::of_words(said).is_final(), is_final);
    }

    #[test]
    fn a_code_is_found_before_its_class() {
        for (at, (class, _)) in CODES.iter().enumerate() {
            let late = CODES[at + 1..].iter().find(|(it, _)| it.starts_with(class));
            assert!(late.is_none(), "{late:?} comes after {class}");
        }
    }
}
