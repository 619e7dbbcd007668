//! The ledger of proofs, as it is read: newest first, in parts from the begin to the end, or a team's of a period.

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use uuid::Uuid;

use super::{Catalog, CatalogError};
use crate::{
    nouns::Proof,
    proof::{
        ProofKind, ProofOutcome,
        chain::{Hash, Head},
        statement::{ChainHead, Period},
    },
};

/// How many proofs are held at once while the chain is checked. Each takes at most a quarter of a mebibyte.
const AT_ONCE: i64 = 200;

/// Which proofs to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct ProofFilter {
    /// Of one resource.
    pub resource_id: Option<String>,
    /// Of one team's resources, at the time.
    pub team: Option<String>,
    /// Of one kind.
    pub kind: Option<ProofKind>,
    /// Of one outcome.
    pub outcome: Option<ProofOutcome>,
    /// Recorded at or after this instant.
    pub since: Option<DateTime<Utc>>,
    /// Recorded before this instant.
    pub before: Option<DateTime<Utc>>,
    /// At most this many.
    pub limit: i64,
}

/// Where the ledger ends.
#[derive(Debug, Clone, Copy)]
pub struct LedgerEnd {
    /// Where its head says that it ends; `None` if the head is gone.
    pub head: Option<Head>,
    /// The highest number in it.
    pub last: i64,
}

/// A team's part of the ledger, read at one instant.
#[derive(Debug, Clone)]
pub struct Extract {
    /// The proofs, in order; `None` if there are more than may be.
    pub proofs: Option<Vec<Proof>>,
    /// Where the whole chain ended.
    pub chain: ChainHead,
}

impl Catalog {
    /// Returns proofs, newest first.
    pub async fn recorded_proofs(&self, filter: &ProofFilter) -> Result<Vec<Proof>, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        // A plan made for any filter uses the index of none.
        sqlx::query("set local plan_cache_mode = force_custom_plan")
            .execute(&mut *transaction)
            .await?;
        let rows = sqlx::query_file_as!(
            Proof,
            "src/catalog/recorded_proofs.sql",
            filter.resource_id,
            filter.team,
            filter.kind.map(ProofKind::as_str),
            filter.outcome.map(ProofOutcome::as_str),
            filter.since,
            filter.before,
            filter.limit
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(rows)
    }

    /// Returns the proof with this number.
    pub async fn proof_numbered(&self, number: i64) -> Result<Proof, CatalogError> {
        let found = self.proofs_between(number - 1, number).await?;
        let found = found.into_iter().find(|proof| proof.number == number);
        found.ok_or_else(|| CatalogError::not_found("proof", &number, "proof list"))
    }

    /// Returns the proof with this id.
    pub async fn proof_with_id(&self, id: Uuid) -> Result<Proof, CatalogError> {
        let number = sqlx::query_scalar!("select number from lastgood.proofs where id = $1", id)
            .fetch_optional(self.pool())
            .await?
            .ok_or_else(|| CatalogError::not_found("proof", &id, "proof list"))?;
        self.proof_numbered(number).await
    }

    /// Returns the first proofs after number `after`, up to number `last`, in order: as many as may be held at once.
    pub async fn proofs_between(&self, after: i64, last: i64) -> Result<Vec<Proof>, CatalogError> {
        let rows = sqlx::query_as!(
            Proof,
            r#"select number, version, id, recorded_at, kind, outcome, because, because_kind, resource_id as resource, team, tier, engine,
                 point, consistent_at, archive_blake3, archive_bytes, dump_bytes, run_id as run, attempt_id, worker as consumer,
                 seconds, compared, encode(previous_hash, 'hex') as "previous_hash!", encode(hash, 'hex') as "hash!"
               from lastgood.proofs where number > $1 and number <= $2 order by number limit $3"#,
            after,
            last,
            AT_ONCE
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns where the ledger ends, by its head and by its rows.
    pub async fn ledger_end(&self) -> Result<LedgerEnd, CatalogError> {
        let row = sqlx::query!(
            r#"select head.number as "number?", encode(head.hash, 'hex') as hash,
                 coalesce((select max(number) from lastgood.proofs), 0) as "last!"
               from (select) as one left join lastgood.proof_chain as head on true"#
        )
        .fetch_one(self.pool())
        .await?;
        let hash = row.hash.as_deref().and_then(Hash::parse);
        Ok(LedgerEnd {
            head: row
                .number
                .zip(hash)
                .map(|(number, hash)| Head { number, hash }),
            last: row.last,
        })
    }

    /// Returns a team's proofs of a period, and where the chain ended at the same instant.
    ///
    /// No proofs are returned if there are more than `most`, or if they take more than `most_bytes` as JSON.
    pub async fn extract_proofs(
        &self,
        team: &str,
        period: Period,
        (most, most_bytes): (usize, usize),
    ) -> Result<Extract, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        sqlx::query("set transaction isolation level repeatable read, read only")
            .execute(&mut *transaction)
            .await?;
        let chain = sqlx::query_as!(
            ChainHead,
            r#"select number, encode(hash, 'hex') as "hash!" from lastgood.proof_chain"#
        )
        .fetch_one(&mut *transaction)
        .await?;
        let (mut proofs, mut bytes) = (Vec::new(), 0);
        let mut is_too_much = false;
        {
            let mut rows = sqlx::query_file_as!(
                Proof,
                "src/catalog/extract_proofs.sql",
                team,
                period.from,
                period.to
            )
            .fetch(&mut *transaction);
            while let Some(proof) = rows.try_next().await? {
                bytes += serde_json::to_string(&proof).map_or(0, |text| text.len());
                is_too_much = proofs.len() >= most || bytes > most_bytes;
                if is_too_much {
                    break;
                }
                proofs.push(proof);
            }
        }
        if is_too_much {
            // The rest of the answer is not waited for.
            drop(transaction);
        } else {
            transaction.commit().await?;
        }
        Ok(Extract {
            proofs: (!is_too_much).then_some(proofs),
            chain,
        })
    }
}
