//! How the promises were kept.

use std::sync::Arc;

use axum::{Json, extract::State};
use chrono::NaiveDate;
use lastgood_jobs::resource::{ResourceId, TeamId, Tier};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    access::Reader,
    problem::{Kind, Problem},
    read::{Asked, limit},
};
use crate::{attained, nouns::PromiseReport};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(report))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// The first day in UTC; 29 days before the last without.
    from: Option<NaiveDate>,
    /// The last day in UTC; today without.
    to: Option<NaiveDate>,
    /// Only this team's. A token that is bound to a team sees its own team's alone.
    team: Option<String>,
    /// Only those of this tier.
    tier: Option<String>,
    /// Only that of this resource, with the times in which it was broken.
    resource: Option<String>,
    /// How many teams and resources to list at most; 50 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// Show how the promises were kept, and the error budgets
///
/// Computed from the facts on record: when each restore point came to exist and until when it counted. A day is counted for good once it
/// has ended, and about every hour while it lasts: `counted_until` says up to when. A token that is bound to a team sees only its team's.
#[utoipa::path(
    get, path = "/promise", tag = "overview", operation_id = "promise", security(("token" = ["read"])), params(Which),
    responses((status = 200, description = "How the promises were kept", body = PromiseReport))
)]
async fn report(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Asked(which): Asked<Which>,
) -> Result<Json<PromiseReport>, Problem> {
    attained::checked(which.from, which.to).map_err(|why| Problem::new(Kind::BadRequest, why))?;
    let is_hidden = |team: &String| team.parse::<TeamId>().is_err() || !caller.sees(team);
    let has_none = which.team.as_ref().is_some_and(is_hidden)
        || which
            .tier
            .as_ref()
            .is_some_and(|tier| tier.parse::<Tier>().is_err())
        || which
            .resource
            .as_ref()
            .is_some_and(|id| id.parse::<ResourceId>().is_err());
    let asked = attained::Asked {
        from: which.from,
        to: which.to,
        team: which.team.or_else(|| caller.team().map(str::to_owned)),
        tier: which.tier,
        resource: which.resource,
        limit: limit(which.limit)?,
    };
    let plans = api.in_force().plans;
    // A malformed name has no promises, nor has a team that the token may not see.
    if has_none {
        return Ok(Json(attained::nothing(&api.catalog, &asked).await?));
    }
    Ok(Json(attained::report(&api.catalog, &plans, &asked).await?))
}
