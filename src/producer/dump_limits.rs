//! How large may a tier's dumps be? The producer records the limits for consumers, which have no plans file.

use lastgood_jobs::error::chain;

use super::TOLD_WITHIN;
use crate::{
    catalog::{Catalog, CatalogError, answered},
    plan::Plans,
};

/// The plans whose limits were recorded last.
#[derive(Default)]
pub(super) struct Told(Option<Plans>);

impl Told {
    /// Records the limits of the operator's own plans, unless they were recorded last time.
    pub(super) async fn tell(&mut self, catalog: &Catalog, own: Option<Plans>) {
        let Some(plans) = own.filter(|own| self.0.as_ref() != Some(own)) else {
            return;
        };
        match answered(TOLD_WITHIN, limit_dumps(catalog, &plans)).await {
            Ok(()) => self.0 = Some(plans),
            Err(error) => tracing::warn!(
                error = chain(&error),
                "cannot record how large dumps may be"
            ),
        }
    }
}

/// Replaces the recorded limits on the size of dumps by those of the plans.
pub async fn limit_dumps(catalog: &Catalog, plans: &Plans) -> Result<(), CatalogError> {
    let limits = plans.iter().filter_map(|plan| {
        let bytes = i64::try_from(plan.maximum_dump_bytes()?).unwrap_or(i64::MAX);
        Some((plan.tier.to_string(), bytes))
    });
    let (tiers, bytes): (Vec<String>, Vec<i64>) = limits.unzip();
    sqlx::query_file!("src/producer/dump_limits.sql", &tiers, &bytes)
        .execute(catalog.pool())
        .await?;
    Ok(())
}
