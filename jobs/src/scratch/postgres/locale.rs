//! Which encoding and locale does a drill's database get?

use sqlx::PgConnection;

use crate::{
    engine::postgres::{
        names::identifier,
        properties::{Properties, create_options},
        session::run,
    },
    error::JobError,
};

/// What a dump's properties say about sorting and letters.
const LOCALE: [&str; 5] = ["collate", "ctype", "locale_provider", "locale", "icu_rules"];

/// A locale that a dump was made with and this machine does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplacedLocale {
    /// Such as `de_DE.UTF-8`.
    pub wanted: String,
    /// Such as `C.UTF-8`.
    pub used: String,
}

/// Creates a database of the dump's encoding, and of its locale if the server has it.
pub(in crate::scratch) async fn create_database(
    session: &mut PgConnection,
    major: u32,
    properties: &Properties,
    database: &str,
    owner: &str,
) -> Result<Option<ReplacedLocale>, JobError> {
    let mut wanted = properties.clone();
    wanted.remove("tablespace");
    let mut refused = None;
    for attempt in candidates(&wanted) {
        let create = format!(
            "create database {} owner {owner} template template0{}",
            identifier(database),
            create_options(&attempt, major)
        );
        match run(session, "create the database", create).await {
            Ok(()) => {
                return Ok((attempt != wanted).then(|| ReplacedLocale {
                    wanted: shown(&wanted),
                    used: shown(&attempt),
                }));
            }
            // Another locale would not help.
            Err(
                error @ (JobError::Unreachable { .. }
                | JobError::NoAnswer { .. }
                | JobError::Denied { .. }),
            ) => {
                return Err(error);
            }
            // The first says what is missing.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or(JobError::NoTargetUrl))
}

/// Returns the properties to try, in this order: as they were, with Unicode's letters, and with bytes as letters, which
/// goes with every encoding.
fn candidates(wanted: &Properties) -> Vec<Properties> {
    let with = |locale: &str| {
        let mut other = wanted.clone();
        for name in LOCALE {
            other.remove(name);
        }
        other.insert("collate".to_owned(), locale.to_owned());
        other.insert("ctype".to_owned(), locale.to_owned());
        other
    };
    let is_unicode = wanted.get("encoding").is_none_or(|it| it == "UTF8");
    let mut all = vec![wanted.clone()];
    if is_unicode {
        all.push(with("C.UTF-8"));
    }
    all.push(with("C"));
    all
}

/// Returns a database's locale as a reader knows it.
fn shown(properties: &Properties) -> String {
    let text = |name: &str| properties.get(name).map(String::as_str);
    match (text("locale_provider"), text("locale"), text("collate")) {
        (Some(provider @ ("icu" | "builtin")), Some(locale), _) => format!("{provider} {locale}"),
        (_, _, Some(collate)) => collate.to_owned(),
        _ => "the server's own".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Properties {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    #[rstest]
    #[case::unicode("UTF8", &["xx", "C.UTF-8", "C"])]
    #[case::latin("LATIN1", &["xx", "C"])]
    fn a_locale_is_replaced_by_one_that_goes_with_the_encoding(
        #[case] encoding: &str,
        #[case] tried: &[&str],
    ) {
        let wanted = of(&[("encoding", encoding), ("collate", "xx"), ("ctype", "xx")]);
        let found: Vec<String> = candidates(&wanted).iter().map(shown).collect();
        assert_eq!(found, tried);
        assert!(
            candidates(&wanted)
                .iter()
                .all(|it| it.get("encoding").is_some_and(|it| it == encoding))
        );
    }

    #[test]
    fn another_provider_is_left_out_with_its_locale() {
        let wanted = of(&[
            ("encoding", "UTF8"),
            ("collate", "C"),
            ("ctype", "C"),
            ("locale_provider", "icu"),
            ("locale", "de"),
        ]);
        let tried = candidates(&wanted);
        assert_eq!(shown(&tried[0]), "icu de");
        assert_eq!(
            tried[2],
            of(&[("encoding", "UTF8"), ("collate", "C"), ("ctype", "C")])
        );
    }
}
