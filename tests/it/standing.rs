//! A catalog that answers but cannot do its work is told apart from one that can.

use anyhow::Result;
use lastgood::catalog::Catalog;

use crate::{database::TestCatalog, end_to_end::faults::skipped};

#[tokio::test]
async fn a_catalog_that_takes_no_writes_is_told() -> Result<()> {
    let db = TestCatalog::create().await?;
    assert_eq!(db.catalog.faults().await?, [""; 0]);
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "alter database {} set default_transaction_read_only = on",
        db.name()
    )))
    .execute(db.pool())
    .await?;
    let standby = Catalog::connect(&db.url(), 2).await?;
    let faults = standby.faults().await?;
    assert!(
        matches!(faults.as_slice(), [fault] if fault.contains("takes no writes")),
        "{faults:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_pooler_that_keeps_no_sessions_is_told_and_one_that_does_is_not() -> Result<()> {
    for (mode, told) in [("TRANSACTION", 1), ("SESSION", 0)] {
        let variable = format!("LASTGOOD_TEST_PGBOUNCER_{mode}_URL");
        let Some(url) = std::env::var(&variable)
            .ok()
            .filter(|url| !url.starts_with("skip"))
        else {
            skipped(&format!("there is no PgBouncer: set {variable}"));
            continue;
        };
        let pooled = Catalog::connect(&url.into(), 1).await?;
        let faults = pooled.faults().await?;
        assert_eq!(faults.len(), told, "{mode}: {faults:?}");
    }
    Ok(())
}
