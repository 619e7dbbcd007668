//! What a database was created with: recorded in the manifest, and used to create it again.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::PgConnection;

use super::{
    names::{identifier, literal},
    session::answer,
};
use crate::error::JobError;

/// `encoding`, `collate`, `ctype`, `locale_provider`, `locale`, `icu_rules`, `owner`, `tablespace`, `connection_limit`,
/// and `is_template` if it is one.
pub(crate) type Properties = BTreeMap<String, String>;

/// Reads a database's properties; `None` if there is no such database.
pub(super) async fn read(
    session: &mut PgConnection,
    database: &str,
) -> Result<Option<Properties>, JobError> {
    // As JSON, since the columns depend on the server's version.
    let question = "select to_jsonb(d) || jsonb_build_object( \
        'encoding', pg_encoding_to_char(d.encoding), \
        'owner', pg_get_userbyid(d.datdba), \
        'tablespace', (select spcname from pg_tablespace t where t.oid = d.dattablespace)) \
        from pg_database d where datname = $1";
    let row = sqlx::query_scalar::<_, Value>(question)
        .bind(database)
        .fetch_optional(session);
    Ok(answer("read the database's properties", row)
        .await?
        .map(|row| named(&row)))
}

fn named(row: &Value) -> Properties {
    let text = |column: &str| match row.get(column) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
    };
    let provider = text("datlocprovider").and_then(|letter| match letter.as_str() {
        "c" => Some("libc"),
        "i" => Some("icu"),
        "b" => Some("builtin"),
        _ => None,
    });
    let pairs = [
        ("encoding", text("encoding")),
        ("collate", text("datcollate")),
        ("ctype", text("datctype")),
        ("locale_provider", provider.map(str::to_owned)),
        // One column with two names: `daticulocale` in 15 and 16, `datlocale` from 17 on.
        ("locale", text("datlocale").or_else(|| text("daticulocale"))),
        ("icu_rules", text("daticurules")),
        ("owner", text("owner")),
        ("tablespace", text("tablespace")),
        ("connection_limit", text("datconnlimit")),
        (
            "is_template",
            (row.get("datistemplate") == Some(&Value::Bool(true))).then(|| "true".to_owned()),
        ),
    ];
    let known = pairs
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    known.collect()
}

/// Returns the options of `create database` for the same encoding, locale and tablespace.
pub(crate) fn create_options(properties: &Properties, server_major: u32) -> String {
    let mut options = String::new();
    let mut add = |option: &str, value: Option<String>| {
        if let Some(value) = value {
            options += " ";
            options += option;
            options += " ";
            options += &value;
        }
    };
    let quoted = |name: &str| properties.get(name).map(|value| literal(value));
    add("encoding", quoted("encoding"));
    add("lc_collate", quoted("collate"));
    add("lc_ctype", quoted("ctype"));
    let provider = properties.get("locale_provider").map(String::as_str);
    match provider {
        Some("icu") if server_major >= 15 => {
            add("locale_provider", Some("icu".to_owned()));
            add("icu_locale", quoted("locale"));
            add("icu_rules", quoted("icu_rules"));
        }
        Some("builtin") if server_major >= 17 => {
            add("locale_provider", Some("builtin".to_owned()));
            add("builtin_locale", quoted("locale"));
        }
        Some("libc") if server_major >= 15 => add("locale_provider", Some("libc".to_owned())),
        _ => {}
    }
    add("tablespace", tablespace(properties).map(identifier));
    options
}

/// Returns the tablespace that has to be named. `pg_default` is left out, because naming it needs a privilege that
/// using it by default does not.
pub(super) fn tablespace(properties: &Properties) -> Option<&str> {
    let named = properties.get("tablespace").map(String::as_str);
    named.filter(|name| *name != "pg_default")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_database_is_created_with_what_it_had() {
        let row = json!({
            "encoding": "UTF8", "datcollate": "C", "datctype": "C.UTF-8", "datlocprovider": "i",
            "daticulocale": "de-x-icu'", "datconnlimit": -1, "owner": "app", "tablespace": "Fast",
        });
        let properties = named(&row);
        assert_eq!(
            properties.get("connection_limit").map(String::as_str),
            Some("-1")
        );
        assert_eq!(
            create_options(&properties, 16),
            " encoding  E'UTF8' lc_collate  E'C' lc_ctype  E'C.UTF-8' locale_provider icu icu_locale  E'de-x-icu\\'' \
             tablespace \"Fast\""
        );
    }
}
