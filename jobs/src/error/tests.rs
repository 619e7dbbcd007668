use rstest::rstest;

use super::*;

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Layer {
    text: &'static str,
    #[source]
    cause: Option<Box<Layer>>,
}

fn layers(texts: &[&'static str]) -> Option<Box<Layer>> {
    let (text, causes) = texts.split_first()?;
    Some(Box::new(Layer {
        text,
        cause: layers(causes),
    }))
}

fn said() -> ServerFault {
    ServerFault::new("no", None)
}

#[rstest]
#[case::gone(JobError::Postgres(PostgresError::DatabaseGone { database: "app".to_owned() }), "correct the name")]
#[case::refused(JobError::Refused(said()), "correct them in the secret")]
#[case::denied(JobError::Denied { doing: "connect", source: said() }, "grant it")]
#[case::unreachable(JobError::Unreachable { doing: "connect", source: said() }, "check that it is running")]
#[case::no_answer(JobError::NoAnswer { doing: "connect", seconds: 9 }, "check whether it is overloaded")]
#[case::closed(
    JobError::Postgres(PostgresError::DatabaseClosed { database: "app".to_owned(), by_hand: "alter".to_owned() }),
    "run `alter`"
)]
#[case::full(JobError::StoreFull { doing: "write" }, "make room")]
#[case::damaged(
    JobError::Damaged { key: "k".to_owned(), source: Damage::Missing },
    "choose another restore point"
)]
#[case::not_empty(
    JobError::TargetNotEmpty { database: "app".to_owned(), found: "table t".to_owned() },
    "restore into an empty one"
)]
#[case::not_whole(JobError::Postgres(PostgresError::RestoreNotWhole { expected: 2, found: 1 }), "do not use it; restore once more")]
#[case::left_closed(
    JobError::Postgres(PostgresError::LeftClosed {
        database: "app".to_owned(),
        by_hand: "alter database \"app\" allow_connections true".to_owned(),
        source: Box::new(JobError::LeaseLost),
    }),
    "run `alter database \"app\" allow_connections true`"
)]
#[case::lease(JobError::LeaseLost, "another worker owns the run")]
fn what_can_be_mended_says_how_on_one_short_line(#[case] error: JobError, #[case] hint: &str) {
    let text = error.to_string();
    assert!(text.contains(hint), "{text}");
    assert!(
        text.starts_with(char::is_lowercase) && text.lines().count() == 1,
        "{text}"
    );
    assert!(text.len() <= 180, "{} bytes: {text}", text.len());
}

/// The API's answers carry the same words, and their readers have no command line.
#[rstest]
#[case::superuser(
    JobError::Postgres(PostgresError::AsSuperuser),
    "say `as_superuser` (--as-superuser)"
)]
#[case::tablespace(
    JobError::Postgres(PostgresError::NoTablespace { names: "fast".to_owned() }),
    "say `no_tablespaces` (--no-tablespaces)"
)]
#[case::replication(
    JobError::Postgres(PostgresError::BreaksReplication { what: "slot s".to_owned() }),
    "say `break_replication` (--break-replication)"
)]
fn an_option_is_told_as_the_api_and_as_the_command_line_call_it(
    #[case] error: JobError,
    #[case] hint: &str,
) {
    let text = error.to_string();
    assert!(text.contains(hint), "{text}");
    assert_eq!(text.matches("--").count(), 1, "{text}");
}

#[rstest]
#[case::alone(&["it failed"], "it failed")]
#[case::causes(&["it failed", "no file", "no disk"], "it failed: no file: no disk")]
#[case::repeated(&["it failed: no file", "no file"], "it failed: no file")]
#[case::repeated_whole(&["it failed: no file: no disk", "no file: no disk", "no disk"], "it failed: no file: no disk")]
#[case::said_before_but_not_last(&["no file was left", "no file"], "no file was left: no file")]
#[case::empty(&["it failed", "", "no disk"], "it failed: no disk")]
#[case::lines(&["it failed\n", "first\n\n  second\n"], "it failed: first | second")]
fn a_chain_is_one_line_and_says_nothing_twice(#[case] texts: &[&'static str], #[case] line: &str) {
    let error = layers(texts).unwrap();
    assert_eq!(chain(&error), line);
}

/// A quoted message is bounded on arrival, whatever its length and wherever a character ends.
#[test]
fn a_text_of_any_length_is_told_in_its_begin_and_its_end() {
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Said(String);

    for filling in ["x", "ü", "€", "🐘"] {
        for length in [MOST_TOLD - 1, MOST_TOLD, MOST_TOLD + 1, 20 << 20] {
            let text = format!("begin {} end", filling.repeat(length / filling.len()));
            let story = chain(&Said(text.clone()));
            assert!(
                story.len() <= MOST_TOLD,
                "{filling} {length}: {}",
                story.len()
            );
            assert!(story.starts_with("begin ") && story.ends_with(" end"));
            assert_eq!(story == text, text.len() <= MOST_TOLD);
        }
    }
}
