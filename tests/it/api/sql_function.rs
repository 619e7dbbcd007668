//! A service requests a backup in its own transaction, with the two grants of docs/how-to/enqueue.md, and can do nothing else.

use anyhow::{Context as _, Result, ensure};
use lastgood::catalog::{AuditFilter, Order};
use lastgood_jobs::attempt::RunId;
use secrecy::ExposeSecret as _;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

use crate::database::{TestCatalog, reads_of_runs};

/// A catalog, and a role with the documented grants.
struct Shared {
    db: TestCatalog,
    role: String,
}

impl Shared {
    async fn create() -> Result<Self> {
        let db = TestCatalog::create().await?;
        db.add("shop", "acme", "pro").await?;
        let role = format!("service_{}", Uuid::new_v4().simple());
        let grants = include_str!("../../../docs/how-to/enqueue.md")
            .split("```sql\n-- grants\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .context("docs/how-to/enqueue.md has no grants")?
            .replace("shop_service", &role);
        ensure!(grants.lines().count() == 2, "{grants}");
        let statement = format!("create role {role} login password 'service'; {grants}");
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(db.pool())
            .await?;
        Ok(Self { db, role })
    }

    async fn connect(&self) -> Result<PgConnection> {
        let options: PgConnectOptions = self.db.url().expose_secret().parse()?;
        let options = options.username(&self.role).password("service");
        Ok(PgConnection::connect_with(&options).await?)
    }

    async fn runs(&self) -> Result<i64> {
        self.db.count("select count(*) from lastgood.runs").await
    }

    async fn end(self) -> Result<()> {
        let statement = format!("drop owned by {0}; drop role {0}", self.role);
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(self.db.pool())
            .await?;
        Ok(())
    }
}

async fn ask(
    connection: &mut PgConnection,
    resource: &str,
    key: Option<&str>,
) -> sqlx::Result<Uuid> {
    sqlx::query_scalar("select lastgood.enqueue_backup($1, $2)")
        .bind(resource)
        .bind(key)
        .fetch_one(connection)
        .await
}

fn code(error: &sqlx::Error) -> String {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .unwrap_or_default()
        .into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_exists_if_and_when_its_transaction_commits() -> Result<()> {
    let shared = Shared::create().await?;
    let mut service = shared.connect().await?;
    let mut transaction = service.begin().await?;
    ask(&mut transaction, "shop", Some("k")).await?;
    transaction.rollback().await?;
    assert_eq!(shared.runs().await?, 0);
    let mut transaction = service.begin().await?;
    let run = ask(&mut transaction, "shop", Some("k")).await?;
    assert_eq!(shared.runs().await?, 0);
    transaction.commit().await?;
    let row = shared.db.catalog.run(RunId(run)).await?;
    assert_eq!(
        (
            row.kind.as_str(),
            row.trigger.as_str(),
            row.state.as_str(),
            row.engine.as_str()
        ),
        ("backup", "adhoc", "queued", "postgres")
    );
    assert_eq!(ask(&mut service, "shop", Some("k")).await?, run);
    assert_ne!(ask(&mut service, "shop", None).await?, run);
    assert_eq!(shared.runs().await?, 2);
    service.close().await?;
    shared.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grants_of_the_documentation_allow_nothing_else() -> Result<()> {
    let shared = Shared::create().await?;
    let mut service = shared.connect().await?;
    ask(&mut service, "shop", None).await?;
    let tables: Vec<String> = sqlx::query_scalar("select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'lastgood'")
        .fetch_all(shared.db.pool())
        .await?;
    ensure!(tables.len() > 8, "{tables:?}");
    for table in tables {
        for statement in [
            format!("select 1 from {table}"),
            format!("delete from {table}"),
            format!("insert into {table} default values"),
        ] {
            let refused = sqlx::raw_sql(AssertSqlSafe(statement.clone()))
                .execute(&mut service)
                .await;
            ensure!(
                refused.as_ref().is_err_and(|error| code(error) == "42501"),
                "{statement}: {refused:?}"
            );
        }
    }
    // The inner function would reveal whether a resource exists, without leaving an error behind.
    let inner = sqlx::query("select lastgood.ask_for_backup('shop', null)")
        .execute(&mut service)
        .await;
    ensure!(
        inner.as_ref().is_err_and(|error| code(error) == "42501"),
        "{inner:?}"
    );
    // A table of the service's own must not shadow the catalog's.
    sqlx::raw_sql("create temporary table runs (id uuid); set search_path = pg_temp, lastgood")
        .execute(&mut service)
        .await?;
    ask(&mut service, "shop", None).await?;
    assert_eq!(shared.runs().await?, 2);
    service.close().await?;
    shared.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_the_grants_is_refused() -> Result<()> {
    let shared = Shared::create().await?;
    let statement = format!(
        "revoke execute on function lastgood.enqueue_backup from {}",
        shared.role
    );
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(shared.db.pool())
        .await?;
    let mut service = shared.connect().await?;
    let refused = ask(&mut service, "shop", None).await;
    ensure!(
        refused.as_ref().is_err_and(|error| code(error) == "42501"),
        "{refused:?}"
    );
    service.close().await?;
    shared.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_states_of_their_own_and_leave_nothing() -> Result<()> {
    let shared = Shared::create().await?;
    shared.db.add("gone", "acme", "pro").await?;
    shared
        .db
        .execute("update lastgood.resources set status = 'removed' where id = 'gone'")
        .await?;
    shared
        .db
        .execute(
            "insert into lastgood.runs (queue, kind, trigger, resource_id, args, idempotency_key)
         values ('postgres', 'drop_replaced', 'adhoc', 'shop', '{}', 'taken')",
        )
        .await?;
    let mut service = shared.connect().await?;
    for (resource, key, state) in [
        ("nothing", Some("k"), "LG404"),
        ("gone", Some("k"), "LG409"),
        ("shop", Some("taken"), "LG409"),
        ("shop", Some(""), "LG400"),
    ] {
        let refused = ask(&mut service, resource, key).await;
        ensure!(
            refused.as_ref().is_err_and(|error| code(error) == state),
            "{resource} {key:?}: {refused:?}"
        );
    }
    assert_eq!(shared.runs().await?, 1);
    ask(&mut service, "shop", None).await?;
    shared
        .db
        .catalog
        .set_adhoc_limits(Some(1), None, None, &Order::new("test", None))
        .await?;
    let limited = ask(&mut service, "shop", None).await;
    ensure!(
        limited.as_ref().is_err_and(|error| code(error) == "LG429"),
        "{limited:?}"
    );
    shared
        .db
        .catalog
        .set_adhoc_limits(Some(5), Some(1), None, &Order::new("test", None))
        .await?;
    let limited = ask(&mut service, "shop", None).await;
    ensure!(
        limited.as_ref().is_err_and(|error| code(error) == "LG429"),
        "{limited:?}"
    );
    service.close().await?;
    shared.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_is_on_record_once() -> Result<()> {
    let shared = Shared::create().await?;
    let mut service = shared.connect().await?;
    let run = ask(&mut service, "shop", Some("k")).await?;
    ask(&mut service, "shop", Some("k")).await?;
    let acts = shared.db.catalog.audited(&AuditFilter::newest(10)).await?;
    let told: Vec<_> = acts
        .iter()
        .filter(|act| act.action == "backup")
        .map(|act| (act.by.clone(), act.resource.as_deref(), &act.detail))
        .collect();
    assert_eq!(
        told,
        [(
            format!("sql:{}", shared.role),
            Some("shop"),
            &json!({ "run": run })
        )]
    );
    service.close().await?;
    shared.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_path_of_the_callers_own_leads_nowhere() -> Result<()> {
    let shared = Shared::create().await?;
    let role = &shared.role;
    let trap = format!(
        "create schema trap authorization {role};
         create function trap.length(text) returns integer language plpgsql as
             $$ begin raise exception 'called with the rights of %', current_user; end $$;
         create function trap.jsonb_build_object(text, uuid) returns jsonb language plpgsql as
             $$ begin raise exception 'called with the rights of %', current_user; end $$;
         grant execute on all functions in schema trap to {role}"
    );
    sqlx::raw_sql(AssertSqlSafe(trap))
        .execute(shared.db.pool())
        .await?;
    let mut service = shared.connect().await?;
    sqlx::raw_sql("set search_path = trap, pg_catalog")
        .execute(&mut service)
        .await?;
    let trapped = sqlx::query("select length('k')")
        .execute(&mut service)
        .await;
    ensure!(trapped.is_err(), "there is no trap");
    ask(&mut service, "shop", Some("k")).await?;
    service.close().await?;
    shared.db.execute("drop schema trap cascade").await?;
    shared.end().await
}

#[tokio::test]
async fn a_request_is_counted_among_its_own_teams_and_not_among_everybodys() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    db.add("busy", "elsewhere", "pro").await?;
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args)
           select 'postgres', 'backup', 'adhoc', 'busy', '{"kind": "backup"}' from generate_series(1, 3000)"#,
    )
    .await?;
    let mut session = db.pool().acquire().await?;
    let before = reads_of_runs(&mut session).await?;
    let outcome: String =
        sqlx::query_scalar("select outcome from lastgood.ask_for_backup('shop', 'a-key')")
            .fetch_one(&mut *session)
            .await?;
    assert_eq!(outcome, "new");
    let after = reads_of_runs(&mut session).await?;
    let read = (after.whole - before.whole, after.rows - before.rows);
    assert!(read.0 == 0 && read.1 < 100, "{read:?}");
    Ok(())
}
