//! Resources as somebody registers, changes and removes them: each act with its record, in one transaction.

use serde_json::json;
use sqlx::PgConnection;

use super::{
    Audit, Catalog, CatalogError, NewResource, Order, ResourceChange, ResourceStatus,
    StoredConnection,
    audit::record_by,
    resources::{add, change, set_status},
};

impl Catalog {
    /// Registers a resource.
    pub async fn register_resource(
        &self,
        new: &NewResource,
        order: &Order,
    ) -> Result<(), CatalogError> {
        let mut transaction = self.pool().begin().await?;
        add(&mut transaction, new).await?;
        let detail = json!({
            "team": new.team, "tier": new.tier, "engine": new.engine, "retention_days": new.retention_days,
            "connection": spoken(&new.connection), "options": new.options,
        });
        note(&mut transaction, order, "register", new.id.as_str(), detail).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Changes a resource, its status too where one is given.
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
        let detail = json!({
            "tier": changes.tier, "retention": format!("{:?}", changes.retention),
            "connection": changes.connection.as_ref().map(spoken), "options": changes.options,
            "status": status.map(ResourceStatus::as_str),
        });
        note(&mut transaction, order, "change", id, detail).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Removes a resource for good; its restore points stay until they expire.
    pub async fn remove_resource(&self, id: &str, order: &Order) -> Result<(), CatalogError> {
        let mut transaction = self.pool().begin().await?;
        set_status(&mut transaction, id, ResourceStatus::Removed).await?;
        note(&mut transaction, order, "remove", id, json!({})).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// How a connection is named where everybody may read: never by what is sealed.
fn spoken(connection: &StoredConnection) -> &str {
    match connection {
        StoredConnection::Reference(reference) => reference,
        StoredConnection::Sealed(_) => "sealed",
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
