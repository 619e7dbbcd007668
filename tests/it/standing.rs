//! A catalog that answers and cannot do its work is told apart from one that can.

use anyhow::Result;
use lastgood::catalog::Catalog;

use crate::database::TestCatalog;

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
