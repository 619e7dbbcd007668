//! Applies what a dump says about the database itself (settings, comment, grants, connection limit) to a database of
//! another name.
//!
//! `pg_dump` writes it into every archive, but the tools restore it only together with the old name. It is kept nowhere
//! but in the archive, which may be encrypted, because settings can be secret.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::{
    names::identifier,
    session::{answer, meaning},
};
use crate::{
    error::{JobError, ServerFault},
    format::pg_dump::Entry,
};

/// One statement of a dump, with the new name.
#[derive(Debug, PartialEq, Eq)]
struct Fact {
    /// What it is about, without any value.
    what: String,
    sql: String,
}

/// Applies all the facts to `database`. Returns notes about those that the server refused.
pub(super) async fn restore(
    admin: &mut PgConnection,
    database: &str,
    entries: &[Entry],
) -> Result<Vec<String>, JobError> {
    let doing = "restore the properties of the database itself";
    let as_the_tool = "set standard_conforming_strings = on";
    answer(doing, admin.execute(as_the_tool)).await?;
    let mut notes = Vec::new();
    for entry in entries.iter().filter(|entry| is_about_the_database(entry)) {
        // Text in another encoding would be restored as something else.
        let is_readable = !entry.definition.contains('\u{fffd}');
        for statement in statements(&entry.definition) {
            let fact = translated(&statement, database).filter(|_| is_readable);
            let Some(fact) = fact else {
                notes.push(format!(
                    "lastgood did not understand a statement of the dump about the database, and did not restore it ({})",
                    entry.kind.to_lowercase()
                ));
                continue;
            };
            let run = sqlx::raw_sql(AssertSqlSafe(fact.sql));
            let Err(error) = admin.execute(run).await else {
                continue;
            };
            if error.as_database_error().is_none() {
                return Err(meaning(doing, &error));
            }
            let fault = ServerFault::from(&error);
            tracing::warn!(%database, %fault, "{} was not restored", fact.what);
            notes.push(format!("{} was not restored: {fault}", fact.what));
        }
    }
    Ok(notes)
}

fn is_about_the_database(entry: &Entry) -> bool {
    match entry.kind.as_str() {
        "DATABASE PROPERTIES" => true,
        "ACL" | "COMMENT" => entry.tag.starts_with("DATABASE "),
        _ => false,
    }
}

/// A token of SQL: its text and its offset.
#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    from: usize,
}

impl Token<'_> {
    fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }
}

/// Splits SQL into statements of tokens. Quoted text is one token.
fn statements(sql: &str) -> Vec<Vec<Token<'_>>> {
    let mut statements = vec![Vec::new()];
    let mut at = 0;
    while let Some(rest) = sql.get(at..).filter(|rest| !rest.is_empty()) {
        let length = token_length(rest);
        let text = rest.get(..length).unwrap_or(rest);
        match text {
            ";" => statements.push(Vec::new()),
            space if space.trim().is_empty() => {}
            text => {
                if let Some(statement) = statements.last_mut() {
                    statement.push(Token { text, from: at });
                }
            }
        }
        at += length.max(1);
    }
    statements.retain(|statement| !statement.is_empty());
    statements
}

/// Returns the length in bytes of the first token of a text.
fn token_length(rest: &str) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.');
    let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
    let first = rest.chars().next().map_or(1, char::len_utf8);
    match rest.as_bytes() {
        [b'"', ..] => quoted_length(rest, '"', false),
        [b'\'', ..] => quoted_length(rest, '\'', false),
        [b'E' | b'e', b'\'', ..] => {
            1 + quoted_length(rest.get(1..).unwrap_or_default(), '\'', true)
        }
        _ if word > 0 => word,
        _ => first,
    }
}

/// Returns the length in bytes of the quoted text at the start. A doubled quote does not end it.
fn quoted_length(rest: &str, quote: char, has_escapes: bool) -> usize {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && has_escapes {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return at + 1;
        }
    }
    rest.len()
}

/// Returns a statement for another database's name; `None` if it is not of a kind that dumps contain for databases.
fn translated(statement: &[Token<'_>], database: &str) -> Option<Fact> {
    let is_at = |at: usize, words: &[&str]| {
        let found = statement.iter().skip(at);
        words.len() <= statement.len().saturating_sub(at)
            && found.zip(words).all(|(token, word)| token.is(word))
    };
    let text = |at: usize| statement.get(at).map_or("", |token| token.text);
    let (name_at, what) = if is_at(0, &["ALTER", "DATABASE"]) {
        let what = match text(3).to_ascii_uppercase().as_str() {
            "SET" => format!("setting {}", text(4)),
            "CONNECTION" => "the connection limit".to_owned(),
            "IS_TEMPLATE" => "the template flag".to_owned(),
            _ => return None,
        };
        (2, what)
    } else if is_at(0, &["ALTER", "ROLE"]) && is_at(3, &["IN", "DATABASE"]) && is_at(6, &["SET"]) {
        (5, format!("setting {} of role {}", text(7), text(2)))
    } else if is_at(0, &["COMMENT", "ON", "DATABASE"]) {
        (3, "the comment".to_owned())
    } else if is_at(0, &["GRANT"]) || is_at(0, &["REVOKE"]) {
        let on = (0..statement.len()).find(|at| is_at(*at, &["ON", "DATABASE"]))?;
        let words: Vec<_> = statement.iter().map(|token| token.text).collect();
        (on + 2, format!("`{}`", words.join(" ")))
    } else if is_at(0, &["SET", "SESSION", "AUTHORIZATION"])
        || is_at(0, &["RESET", "SESSION", "AUTHORIZATION"])
    {
        // The grantor does not matter here.
        return Some(Fact {
            what: "the grantor".to_owned(),
            sql: "select 1".to_owned(),
        });
    } else {
        return None;
    };
    statement.get(name_at)?;
    let sql = statement
        .iter()
        .enumerate()
        .fold(String::new(), |mut sql, (at, token)| {
            let is_apart = at > 0
                && statement
                    .get(at - 1)
                    .is_some_and(|last| last.from + last.text.len() < token.from);
            if is_apart {
                sql.push(' ');
            }
            if at == name_at {
                sql.push_str(&identifier(database));
            } else {
                sql.push_str(token.text);
            }
            sql
        });
    Some(Fact { what, sql })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn of(sql: &str) -> Vec<Option<Fact>> {
        let all = statements(sql);
        all.iter().map(|it| translated(it, "new \"one")).collect()
    }

    #[rstest]
    #[case::limit(
        "ALTER DATABASE shop CONNECTION LIMIT = 7;\n",
        "the connection limit",
        "ALTER DATABASE \"new \"\"one\" CONNECTION LIMIT = 7"
    )]
    #[case::template(
        "ALTER DATABASE shop IS_TEMPLATE = true;",
        "the template flag",
        "ALTER DATABASE \"new \"\"one\" IS_TEMPLATE = true"
    )]
    #[case::list(
        "ALTER DATABASE shop SET search_path TO 'public', '$user';",
        "setting search_path",
        "ALTER DATABASE \"new \"\"one\" SET search_path TO 'public', '$user'"
    )]
    #[case::secret(
        "ALTER DATABASE \"sh;op\" SET \"app.secret\" TO E'a''b;\\\\c\\'; ';",
        "setting \"app.secret\"",
        "ALTER DATABASE \"new \"\"one\" SET \"app.secret\" TO E'a''b;\\\\c\\'; '"
    )]
    #[case::role(
        "ALTER ROLE \"a b\" IN DATABASE shop SET work_mem TO '5MB';",
        "setting work_mem of role \"a b\"",
        "ALTER ROLE \"a b\" IN DATABASE \"new \"\"one\" SET work_mem TO '5MB'"
    )]
    #[case::comment(
        "COMMENT ON DATABASE shop IS 'it''s\n;two';",
        "the comment",
        "COMMENT ON DATABASE \"new \"\"one\" IS 'it''s\n;two'"
    )]
    #[case::grant(
        "GRANT CONNECT,TEMPORARY ON DATABASE shop TO app WITH GRANT OPTION;",
        "`GRANT CONNECT , TEMPORARY ON DATABASE shop TO app WITH GRANT OPTION`",
        "GRANT CONNECT,TEMPORARY ON DATABASE \"new \"\"one\" TO app WITH GRANT OPTION"
    )]
    fn a_fact_keeps_all_but_the_name(#[case] sql: &str, #[case] what: &str, #[case] new: &str) {
        let expected = Fact {
            what: what.to_owned(),
            sql: new.to_owned(),
        };
        assert_eq!(of(sql), [Some(expected)]);
    }

    #[test]
    fn what_no_dump_says_about_a_database_is_not_run() {
        assert_eq!(
            of("DROP DATABASE shop; ALTER ROLE a SUPERUSER; SELECT 1"),
            [None, None, None]
        );
        assert_eq!(of("ALTER DATABASE shop OWNER TO x"), [None]);
        assert_eq!(of("COMMENT ON DATABASE"), [None]);
        assert_eq!(of("GRANT a TO b").len(), 1);
        assert_eq!(of("GRANT a TO b"), [None]);
        assert!(of("  ;; ").is_empty());
    }

    #[test]
    fn any_text_is_taken_apart_without_loss() {
        for text in [
            "'",
            "\"",
            "E'\\",
            "é'ü",
            "E'",
            "''",
            "a'b''c'd",
            "\u{1F600};\u{1F600}",
        ] {
            let tokens: String = statements(text)
                .iter()
                .flatten()
                .map(|token| token.text)
                .collect();
            assert_eq!(tokens, text.replace(';', ""), "{text}");
        }
    }
}
