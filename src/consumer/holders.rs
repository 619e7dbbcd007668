//! Where is a restore point looked for?

use uuid::Uuid;

use super::{Shared, handle};
use crate::{
    catalog::{CatalogError, PointRow, answered},
    stores::NamedStore,
};

/// Returns the stores that a point is looked for in: those that the catalog says hold it, the primary first, and then all
/// others, for the catalog may not know.
pub(super) async fn holders<'a>(
    point: &PointRow,
    shared: &'a Shared,
) -> Result<Vec<&'a NamedStore>, CatalogError> {
    let id: Uuid = point.id;
    let asked = shared.catalog.stores_of(std::slice::from_ref(&id));
    let recorded = answered(handle::READ_WITHIN, asked).await?;
    let recorded = recorded.get(&id).map(Vec::as_slice).unwrap_or_default();
    let (mut first, others): (Vec<_>, Vec<_>) = shared
        .stores
        .iter()
        .partition(|store| recorded.contains(&store.name));
    first.extend(others);
    Ok(first)
}
