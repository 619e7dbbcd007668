//! No point expires because of a suspect one, even if that was decided a moment before. A shrunken point keeps the older ones.

use anyhow::Result;
use chrono::TimeDelta;
use lastgood::catalog::Order;
use uuid::Uuid;

use super::{House, sorted};

const SUSPECT: &str = "update lastgood.restore_points
    set suspected_at = now(), suspected_of = array['unfinished_restore'], suspected_because = 'a mark' where id = $1";
const SHRUNK: &str = "update lastgood.restore_points
    set suspected_at = now(), suspected_of = array['shrunk'], suspected_because = 'a tenth is left' where id = $1";

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_trusted_one_stays_however_many_suspects_came_since() -> Result<()> {
    let house = House::build().await?;
    let [suspect, old_suspect, trusted, older] = house.points([0, 100, 200, 300]).await?;
    for point in [suspect, old_suspect] {
        house.set(SUSPECT, point).await?;
    }
    house.retain().await?;
    assert_eq!(house.gone_ids().await?, sorted([old_suspect, older]));
    house
        .set("delete from lastgood.restore_points where id = $1", trusted)
        .await?;
    house.retain().await?;
    assert_eq!(
        house.gone_ids().await?,
        sorted([old_suspect, older]),
        "where all is suspect, the newest of that is the best there is"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shrunk_one_holds_the_older_ones_until_somebody_confirms_it() -> Result<()> {
    let mut house = House::build().await?;
    let [shrunk, before, oldest] = house.points([25, 29, 40]).await?;
    house.set(SHRUNK, shrunk).await?;
    house.advance(TimeDelta::days(4)).await?;
    let grown_again: Uuid = house.point(TimeDelta::zero()).await?;
    house.retain().await?;
    assert_eq!(house.gone_ids().await?, Vec::<Uuid>::new());
    let order = Order::new("olga", None);
    house
        .db
        .catalog
        .confirm(shrunk, "they meant it", &order)
        .await?;
    house.retain().await?;
    assert_eq!(house.gone_ids().await?, sorted([before, oldest]));
    assert_ne!(grown_again, shrunk);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statement_that_lets_go_refuses_by_itself() -> Result<()> {
    let house = House::build().await?;
    let [suspect, trusted] = house.points([100, 200]).await?;
    house.set(SHRUNK, suspect).await?;
    let [held] = house.points([300]).await?;
    let because = "old".to_owned();
    // Decided before the suspicion was known.
    for sql in [
        "src/catalog/retention/keepers.sql",
        "src/catalog/retention/let_go.sql",
    ] {
        let text =
            std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(sql))?;
        let mut query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(vec![trusted, held]);
        if sql.ends_with("let_go.sql") {
            query = query.bind(vec![because.clone(), because.clone()]);
        }
        query.execute(house.db.pool()).await?;
    }
    assert_eq!(house.gone_ids().await?, Vec::<Uuid>::new());
    Ok(())
}
