//! Registers, changes and removes resources: each action together with its audit record, in one transaction.

use serde_json::json;
use sqlx::{PgConnection, Postgres, Transaction};

use super::{
    Audit, Catalog, CatalogError, NewResource, Order, OwnRetention, ResourceChange,
    StoredConnection,
    adhoc::take_turn,
    audit::record_by,
    resources::{add, change, set_status},
    wait_briefly,
};
use crate::nouns::ResourceStatus;

impl Catalog {
    /// Registers a resource for a team that registers its own, unless the team has reached its limit. Requests of one team take turns.
    pub async fn register_within_quota(
        &self,
        new: &NewResource,
        order: &Order,
    ) -> Result<(), CatalogError> {
        let mut transaction = self.pool().begin().await?;
        wait_briefly(&mut transaction).await?;
        take_turn(&mut transaction, new.team.as_str()).await?;
        let quota = sqlx::query!(
            r#"select l.resources_per_team as most,
                 (select count(*) from lastgood.resources as r where r.team = $1 and r.status <> 'removed') as "has!"
               from lastgood.adhoc_limits as l"#,
            new.team.as_str()
        )
        .fetch_one(&mut *transaction)
        .await?;
        if quota.has >= i64::from(quota.most) {
            return Err(CatalogError::QuotaReached {
                team: new.team.to_string(),
                most: quota.most,
            });
        }
        register(transaction, new, order).await
    }

    /// Registers a resource. If its tier is backed up, it is due at the producer's next tick.
    pub async fn register_resource(
        &self,
        new: &NewResource,
        order: &Order,
    ) -> Result<(), CatalogError> {
        register(self.pool().begin().await?, new, order).await
    }

    /// Changes what a resource is promised or how to connect to it, and its status if one is given; a `None` leaves that part as it is.
    /// A new tier, connection or options end the back-off after failures.
    pub async fn alter_resource(
        &self,
        id: &str,
        changes: &ResourceChange,
        status: Option<ResourceStatus>,
        order: &Order,
    ) -> Result<(), CatalogError> {
        let mut transaction = self.pool().begin().await?;
        change(&mut transaction, id, changes).await?;
        if let Some(status) = status {
            set_status(&mut transaction, id, status).await?;
        }
        let retention = match changes.retention {
            OwnRetention::Same => json!(null),
            OwnRetention::OfTier => json!("tier"),
            OwnRetention::Days(days) => json!(days),
        };
        let detail = json!({
            "tier": changes.tier, "retention": retention,
            "connection": changes.connection.as_ref().map(spoken), "options": changes.options,
            "status": status.map(ResourceStatus::as_str),
        });
        note(&mut transaction, order, "change", id, detail).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Removes a resource for good. Its restore points stay until they expire.
    pub async fn remove_resource(&self, id: &str, order: &Order) -> Result<(), CatalogError> {
        let mut transaction = self.pool().begin().await?;
        set_status(&mut transaction, id, ResourceStatus::Removed).await?;
        note(&mut transaction, order, "remove", id, json!({})).await?;
        transaction.commit().await?;
        Ok(())
    }
}

async fn register(
    mut transaction: Transaction<'_, Postgres>,
    new: &NewResource,
    order: &Order,
) -> Result<(), CatalogError> {
    add(&mut transaction, new).await?;
    let detail = json!({
        "team": new.team, "tier": new.tier, "engine": new.engine, "retention_days": new.retention_days,
        "connection": spoken(&new.connection), "options": new.options,
    });
    note(&mut transaction, order, "register", new.id.as_str(), detail).await?;
    transaction.commit().await?;
    Ok(())
}

/// Returns what the audit log may show of a connection, which everybody may read: never the sealed URL.
fn spoken(connection: &StoredConnection) -> &str {
    match connection {
        StoredConnection::Reference(reference) => reference,
        StoredConnection::Sealed { .. } => "sealed",
    }
}

async fn note(
    connection: &mut PgConnection,
    order: &Order,
    action: &str,
    resource_id: &str,
    detail: serde_json::Value,
) -> Result<(), CatalogError> {
    let entry = Audit {
        action,
        resource_id: Some(resource_id),
        point_id: None,
        detail,
    };
    Ok(record_by(connection, order.by(), &entry).await?)
}
