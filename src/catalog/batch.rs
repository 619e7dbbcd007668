//! A statement over many rows never fails because of one row: rows that the catalog refuses are left out and reported.

use futures::future::BoxFuture;
use sqlx::PgTransaction;

use super::CatalogError;

/// Commits or rolls back a transaction according to `outcome`, and waits until that is done.
///
/// A server reports an error before it releases the statement's locks. A caller that retried at once on another connection, skipping
/// locked rows, would find none.
pub(crate) async fn ended<T>(
    transaction: PgTransaction<'_>,
    outcome: sqlx::Result<T>,
) -> sqlx::Result<T> {
    match outcome {
        Ok(done) => transaction.commit().await.map(|()| done),
        Err(error) => {
            // The first error is reported; a failure of the rollback adds nothing.
            let _over_or_broken = transaction.rollback().await;
            Err(error)
        }
    }
}

/// Runs `statement` over the rows. If the catalog refuses them, runs it over each half, and so on down to single rows.
///
/// Returns the results, and the rows that are refused even alone, each
/// with its error. An error that is not a row's fault ends the whole call.
pub(crate) async fn leave_out<'a, K, T>(
    rows: Vec<K>,
    statement: impl Fn(Vec<K>) -> BoxFuture<'a, Result<T, CatalogError>> + Send,
) -> Result<(Vec<T>, Vec<(K, CatalogError)>), CatalogError>
where
    K: Clone + Send,
    T: Send,
{
    let (mut done, mut left_out) = (Vec::new(), Vec::new());
    let mut batches = vec![rows];
    while let Some(mut batch) = batches.pop() {
        if batch.is_empty() {
            continue;
        }
        match statement(batch.clone()).await {
            Ok(part) => done.push(part),
            Err(error) if error.is_of_a_row() => {
                let second = batch.split_off(batch.len() / 2);
                if batch.is_empty() {
                    left_out.extend(second.into_iter().next().map(|row| (row, error)));
                } else {
                    batches.extend([second, batch]);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok((done, left_out))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::FutureExt as _;

    use super::*;

    fn refusal() -> CatalogError {
        CatalogError::BadRow {
            what: "a row".to_owned(),
            why: "poison".to_owned(),
        }
    }

    #[tokio::test]
    async fn only_the_rows_that_are_refused_alone_are_left_out() -> anyhow::Result<()> {
        for poison in [vec![], vec![0], vec![6], vec![2, 3], (0..7).collect()] {
            let done = Mutex::new(Vec::new());
            let statement = |rows: Vec<i32>| {
                if rows.iter().any(|row| poison.contains(row)) {
                    return std::future::ready(Err(refusal())).boxed();
                }
                done.lock().unwrap().extend(rows.iter().copied());
                std::future::ready(Ok(rows.len())).boxed()
            };
            let (parts, left_out) = leave_out((0..7).collect(), statement).await?;
            let mut left_out: Vec<_> = left_out.into_iter().map(|(row, _)| row).collect();
            left_out.sort_unstable();
            assert_eq!(left_out, poison);
            assert_eq!(parts.iter().sum::<usize>(), 7 - poison.len());
            let mut done = done.into_inner()?;
            done.sort_unstable();
            let good: Vec<_> = (0..7).filter(|row| !poison.contains(row)).collect();
            assert_eq!(done, good);
        }
        Ok(())
    }

    #[tokio::test]
    async fn what_is_no_fault_of_a_row_ends_it() {
        let statement = |_| {
            let error = CatalogError::Unreachable(sqlx::Error::PoolTimedOut);
            std::future::ready(Err::<(), _>(error)).boxed()
        };
        let outcome = leave_out(vec![1, 2], statement).await;
        assert!(matches!(outcome, Err(CatalogError::Unreachable(_))));
    }
}
