//! Does a resource's sealed URL open, here or where consumers run?

use serde::Serialize;

use crate::{
    catalog::{Catalog, ResourceRow},
    config, master,
};

/// A resource, and whether its URL opens.
#[derive(Serialize)]
pub(super) struct Known {
    #[serde(flatten)]
    pub(super) row: ResourceRow,
    /// Whether its sealed URL opens with a master key that this process or a live consumer has; `None` if no URL is sealed.
    pub(super) url_opens: Option<bool>,
}

impl Known {
    /// Returns what is wrong with its URL and what to do about it, if it does not open.
    pub(super) fn lost(&self) -> Option<String> {
        match (self.url_opens, self.row.sealed_under) {
            (Some(false), Some(number)) => Some(format!(
                "sealed under master key {number}, which nobody has: set it again with `lastgood resource set {} --url-stdin`",
                self.row.id
            )),
            _ => None,
        }
    }
}

/// Returns for each resource whether its URL opens, with the keys of this process and of live consumers.
pub(super) async fn known(catalog: &Catalog, rows: Vec<ResourceRow>) -> anyhow::Result<Vec<Known>> {
    // Listing resources needs no key, so an unreadable one is ignored here. The doctor reports it.
    let keys = config::master_keys().ok().flatten();
    let nobody_has = master::nobody_has(catalog, keys.as_ref()).await?;
    let known = rows.into_iter().map(|row| Known {
        url_opens: row.sealed_under.map(|number| !nobody_has.contains(&number)),
        row,
    });
    Ok(known.collect())
}
