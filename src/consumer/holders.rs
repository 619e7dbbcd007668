//! In which stores is a restore point looked for?

use uuid::Uuid;

use super::{Shared, handle};
use crate::{
    catalog::{CatalogError, PointRow, answered},
    stores::NamedStore,
};

/// The stores in which a point is looked for. Both lists are in the order of the stores file.
pub(super) struct Holders<'a> {
    /// Those that hold it according to the catalog.
    pub(super) recorded: Vec<&'a NamedStore>,
    /// All others: the catalog may not know of their copy.
    pub(super) others: Vec<&'a NamedStore>,
}

impl<'a> Holders<'a> {
    /// Returns all stores, first those that should hold the point.
    pub(super) fn all(self) -> impl Iterator<Item = &'a NamedStore> {
        self.recorded.into_iter().chain(self.others)
    }
}

/// Returns the stores in which a point is looked for.
pub(super) async fn holders<'a>(
    point: &PointRow,
    shared: &'a Shared,
) -> Result<Holders<'a>, CatalogError> {
    let id: Uuid = point.id;
    let asked = shared.catalog.stores_of(std::slice::from_ref(&id));
    let known = answered(handle::READ_WITHIN, asked).await?;
    let known = known.get(&id).map(Vec::as_slice).unwrap_or_default();
    let (recorded, others) = shared
        .stores
        .iter()
        .partition(|store| known.contains(&store.name));
    Ok(Holders { recorded, others })
}
