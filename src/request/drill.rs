//! Drills that somebody asks for.

use lastgood_jobs::resource::ResourceId;
use uuid::Uuid;

use super::RequestError;
use crate::{
    catalog::{AskedDrill, Catalog},
    standing::Standing,
};

/// Enqueues a drill of a restore point of the resource, by default of its newest trusted one.
///
/// A resource has one drill at a time: while one waits or runs, that one is returned, whichever point it is of.
pub async fn drill(
    catalog: &Catalog,
    resource: &ResourceId,
    point: Option<Uuid>,
) -> Result<AskedDrill, RequestError> {
    let chosen = if let Some(point) = point {
        catalog.point(point).await?
    } else {
        let newest = catalog.newest_point(resource.as_str(), None).await?;
        newest.ok_or_else(|| RequestError::NothingUsable(resource.clone()))?
    };
    if chosen.resource_id != resource.as_str() {
        return Err(RequestError::OtherPoint {
            point: chosen.id,
            owner: chosen.resource_id,
            resource: resource.clone(),
        });
    }
    match chosen.standing() {
        // A drill says whether a suspect or a damaged one can be restored after all.
        Standing::Trusted | Standing::Suspect | Standing::Quarantined => {}
        Standing::Expired => {
            return Err(RequestError::Expired {
                point: chosen.id,
                resource: resource.clone(),
            });
        }
    }
    Ok(catalog.ask_for_drill(chosen.id).await?)
}
