//! Copies what belongs to the database itself: the grants on it, its settings, comment and connection limit, and
//! whether it is a template.
//!
//! The restore of a dump does not bring these to a database of another name. A fresh database must have them before it
//! takes the old one's place: without the grants, an application may not be able to connect, and without the revokes,
//! everybody is.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::{
    names::{identifier, literal},
    properties::Properties,
    session::{answer, meaning, run},
};
use crate::error::{JobError, ServerFault};

/// Gives `fresh` what `old` has. Returns notes about settings that this role was not allowed to copy.
pub(super) async fn copy(
    admin: &mut PgConnection,
    old: &str,
    fresh: &str,
    properties: &Properties,
) -> Result<Vec<String>, JobError> {
    copy_grants(admin, old, fresh).await?;
    copy_comment(admin, old, fresh).await?;
    if let Some(limit) = properties
        .get("connection_limit")
        .and_then(|limit| limit.parse::<i32>().ok())
        // A lower value marks a database whose drop was interrupted.
        .filter(|limit| *limit >= -1)
    {
        let statement = format!(
            "alter database {} connection limit {limit}",
            identifier(fresh)
        );
        run(admin, "copy the connection limit", statement).await?;
    }
    let notes = copy_settings(admin, old, fresh).await?;
    // Last, because a template cannot be dropped, and the fresh database must be if anything before this fails.
    if properties.contains_key("is_template") {
        let statement = format!("alter database {} is_template true", identifier(fresh));
        run(admin, "copy the template flag", statement).await?;
    }
    Ok(notes)
}

async fn copy_grants(admin: &mut PgConnection, old: &str, fresh: &str) -> Result<(), JobError> {
    let doing = "copy the grants on the database";
    let question = "select case a.grantee when 0 then null else pg_get_userbyid(a.grantee)::text end, \
        a.privilege_type, a.is_grantable \
        from pg_database d, aclexplode(d.datacl) a where d.datname = $1";
    let grants = sqlx::query_as::<_, (Option<String>, String, bool)>(question).bind(old);
    let grants = answer(doing, grants.fetch_all(&mut *admin)).await?;
    if grants.is_empty() {
        // Nothing was ever granted or revoked: the defaults hold, as in the fresh database.
        return Ok(());
    }
    let fresh = identifier(fresh);
    let mut statements = vec![format!("revoke all on database {fresh} from public")];
    for (grantee, privilege, is_grantable) in grants {
        let grantee = grantee.map_or("public".to_owned(), |role| identifier(&role));
        let option = if is_grantable {
            " with grant option"
        } else {
            ""
        };
        // A privilege is one of the server's own words, such as CONNECT.
        statements.push(format!(
            "grant {privilege} on database {fresh} to {grantee}{option}"
        ));
    }
    run(admin, doing, statements.join("; ")).await
}

async fn copy_comment(admin: &mut PgConnection, old: &str, fresh: &str) -> Result<(), JobError> {
    let doing = "copy the comment on the database";
    let question =
        "select shobj_description(oid, 'pg_database') from pg_database where datname = $1";
    let comment = sqlx::query_scalar::<_, Option<String>>(question).bind(old);
    match answer(doing, comment.fetch_optional(&mut *admin))
        .await?
        .flatten()
    {
        None => Ok(()),
        Some(comment) => {
            let statement = format!(
                "comment on database {} is {}",
                identifier(fresh),
                literal(&comment)
            );
            run(admin, doing, statement).await
        }
    }
}

/// Copies the settings of `alter database … set` and `alter role … in database … set`.
async fn copy_settings(
    admin: &mut PgConnection,
    old: &str,
    fresh: &str,
) -> Result<Vec<String>, JobError> {
    let doing = "copy the settings of the database";
    let question = "select r.rolname::text, s.setting \
        from pg_database d \
        join pg_db_role_setting rs on rs.setdatabase = d.oid \
        left join pg_roles r on r.oid = rs.setrole \
        cross join unnest(rs.setconfig) s(setting) \
        where d.datname = $1 and (rs.setrole = 0 or r.rolname is not null)";
    let settings = sqlx::query_as::<_, (Option<String>, String)>(question).bind(old);
    let mut notes = Vec::new();
    for (role, setting) in answer(doing, settings.fetch_all(&mut *admin)).await? {
        let Some((name, value)) = setting.split_once('=') else {
            continue;
        };
        let whose = match &role {
            Some(role) => format!(
                "role {} in database {}",
                identifier(role),
                identifier(fresh)
            ),
            None => format!("database {}", identifier(fresh)),
        };
        let name_in_sql = name
            .split('.')
            .map(identifier)
            .collect::<Vec<_>>()
            .join(".");
        let statements = if is_quoted_list(name) {
            // `from current` takes the list as it is; `to` would need its items one by one.
            format!(
                "begin; select set_config({}, {}, true); alter {whose} set {name_in_sql} from current; commit",
                literal(name),
                literal(value),
            )
        } else {
            // Never set in this session: after `set role`, we could copy nothing more.
            format!("alter {whose} set {name_in_sql} to {}", literal(value))
        };
        if let Err(error) = admin
            .execute(sqlx::raw_sql(AssertSqlSafe(statements)))
            .await
        {
            answer(doing, admin.execute("rollback")).await?;
            let Some(_) = error.as_database_error() else {
                return Err(meaning(doing, &error));
            };
            let of = role.map_or(String::new(), |role| format!(" of role {role}"));
            notes.push(format!(
                "setting {name}{of} was not copied: {}",
                ServerFault::from(&error)
            ));
        }
    }
    Ok(notes)
}

/// Returns whether a setting is a list of quoted names: the ones that `pg_dump` treats as such.
fn is_quoted_list(name: &str) -> bool {
    [
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    ]
    .iter()
    .any(|list| name.eq_ignore_ascii_case(list))
}
