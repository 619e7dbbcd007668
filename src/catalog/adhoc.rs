//! Ad-hoc backups that services ask for, through one SQL function and within limits.

use lastgood_jobs::attempt::RunId;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;

use super::{Audit, Catalog, CatalogError, Enqueued, Order, audit::record_by, wait_briefly};

/// Limits on the ad-hoc backups and resources that services may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdhocLimits {
    /// Ad-hoc backups per hour of one resource.
    pub per_resource: i32,
    /// Ad-hoc backups per hour of all resources of one team.
    pub per_team: i32,
    /// Resources that a team may register itself.
    pub resources_per_team: i32,
}

/// The outcome of a request for an ad-hoc backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdhocBackup {
    /// The run that makes the backup.
    Run(Enqueued),
    /// Refused: the limit was reached within the last hour.
    Limited {
        /// Whose limit was reached.
        of: LimitOf,
        /// When the next request will be accepted, in seconds from now.
        retry_after_seconds: u32,
    },
}

/// Whose limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitOf {
    /// The resource's.
    Resource,
    /// The team's.
    Team,
}

impl Catalog {
    /// Asks for an ad-hoc backup as `lastgood.enqueue_backup` does, and records who asked.
    ///
    /// Requests of one team take turns, so the limits hold however many arrive at once.
    pub async fn ask_for_backup(
        &self,
        resource_id: &str,
        team: &str,
        idempotency_key: Option<&str>,
        order: &Order,
    ) -> Result<AdhocBackup, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        // Both the turn and the insert can wait for a lock: a service's open transaction may have used the same idempotency key.
        wait_briefly(&mut transaction).await?;
        take_turn(&mut transaction, team).await?;
        let asked = ask(&mut transaction, resource_id, idempotency_key).await?;
        if let AdhocBackup::Run(Enqueued::New(run)) = asked {
            let entry = Audit {
                action: "backup",
                resource_id: Some(resource_id),
                point_id: None,
                detail: json!({ "run": run }),
            };
            record_by(&mut transaction, order.by(), &entry).await?;
        }
        transaction.commit().await?;
        Ok(asked)
    }

    /// Returns the limits in force.
    pub async fn adhoc_limits(&self) -> Result<AdhocLimits, CatalogError> {
        let limits = sqlx::query_as!(
            AdhocLimits,
            "select per_resource, per_team, resources_per_team from lastgood.adhoc_limits"
        )
        .fetch_one(self.pool())
        .await?;
        Ok(limits)
    }

    /// Sets the limits; a `None` leaves that limit as it is.
    pub async fn set_adhoc_limits(
        &self,
        per_resource: Option<i32>,
        per_team: Option<i32>,
        resources_per_team: Option<i32>,
        order: &Order,
    ) -> Result<AdhocLimits, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let limits = sqlx::query_as!(
            AdhocLimits,
            "update lastgood.adhoc_limits
             set per_resource = coalesce($1, per_resource), per_team = coalesce($2, per_team),
                 resources_per_team = coalesce($3, resources_per_team)
             returning per_resource, per_team, resources_per_team",
            per_resource,
            per_team,
            resources_per_team
        )
        .fetch_one(&mut *transaction)
        .await?;
        let entry = Audit::new("set_limits", json!(limits));
        record_by(&mut transaction, order.by(), &entry).await?;
        transaction.commit().await?;
        Ok(limits)
    }
}

/// Waits until no other request of the team is being counted. Only roles that may write the catalog's tables can hold it up.
pub(super) async fn take_turn(
    connection: &mut PgConnection,
    team: &str,
) -> Result<(), CatalogError> {
    sqlx::query!(
        "insert into lastgood.adhoc_turns (team) values ($1) on conflict do nothing",
        team
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "select team from lastgood.adhoc_turns where team = $1 for update",
        team
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

async fn ask(
    connection: &mut PgConnection,
    resource_id: &str,
    idempotency_key: Option<&str>,
) -> Result<AdhocBackup, CatalogError> {
    let answer = sqlx::query!(
        r#"select outcome as "outcome!", run, retry_after_seconds from lastgood.ask_for_backup($1, $2)"#,
        resource_id,
        idempotency_key
    )
    .fetch_one(connection)
    .await?;
    let limited = |of| AdhocBackup::Limited {
        of,
        retry_after_seconds: answer
            .retry_after_seconds
            .unwrap_or(0)
            .max(1)
            .unsigned_abs(),
    };
    let not_understood = |why: &str| CatalogError::BadRow {
        what: "an answer from lastgood.ask_for_backup".to_owned(),
        why: why.to_owned(),
    };
    let run = || {
        let run = answer.run.map(RunId);
        run.ok_or_else(|| not_understood("it names no run"))
    };
    match answer.outcome.as_str() {
        "new" => Ok(AdhocBackup::Run(Enqueued::New(run()?))),
        "replayed" => Ok(AdhocBackup::Run(Enqueued::Duplicate(run()?))),
        "no_resource" => Err(super::resource_not_found(resource_id)),
        "removed" => Err(CatalogError::Removed(resource_id.to_owned())),
        "bad_key" => Err(CatalogError::BadKey),
        "key_reused" => Err(CatalogError::KeyReused),
        "resource_limit" => Ok(limited(LimitOf::Resource)),
        "team_limit" => Ok(limited(LimitOf::Team)),
        other => Err(not_understood(other)),
    }
}

impl AdhocBackup {
    /// Returns the run, if there is one.
    #[must_use]
    pub fn run(self) -> Option<RunId> {
        match self {
            Self::Run(enqueued) => Some(enqueued.id()),
            Self::Limited { .. } => None,
        }
    }
}
