//! Listing and showing proofs: what is known about a team's restore points.

use std::sync::Arc;

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use lastgood_jobs::resource::{ResourceId, TeamId};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Api,
    access::Reader,
    problem::Problem,
    read::{Asked, Named, instant, limit},
};
use crate::{
    catalog::{CatalogError, ProofFilter},
    nouns::Proof,
    proof::{ProofKind, ProofOutcome},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
}

/// The largest comparison in a list, so that a database with many differences cannot inflate the answer.
const LISTED_BYTES: usize = 4096;

/// Returns the proof as lists show it: a large comparison is left out. `GET /proofs/{id}` has it in full.
fn listed(mut proof: Proof) -> Proof {
    if proof.compared.to_string().len() > LISTED_BYTES {
        let see = format!("/api/v1/proofs/{}", proof.id);
        proof.compared = serde_json::json!({ "left_out": "it is large", "see": see });
    }
    proof
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListProofs {
    /// Only proofs of this resource's restore points.
    resource: Option<String>,
    /// Only proofs of resources that were this team's at the time. A token that is bound to a team sees its own team's alone.
    team: Option<String>,
    /// Only proofs of this kind.
    #[param(inline)]
    kind: Option<ProofKind>,
    /// Only proofs of this outcome.
    #[param(inline)]
    outcome: Option<ProofOutcome>,
    /// Only proofs recorded at or after this instant.
    since: Option<DateTime<Utc>>,
    /// Only proofs recorded before this instant: the `recorded_at` of the last one on the previous page.
    before: Option<DateTime<Utc>>,
    /// How many to list at most; 50 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// List proofs, newest first
///
/// A proof says what a drill, a verification or a restore has shown about a restore point: that it is proven, that something came back
/// otherwise than it was dumped, that it failed, or that nobody could try. Proofs are never changed and never removed.
///
/// Comparisons of more than 4 KiB are left out here, and the proof's hash does not fit then: `GET /proofs/{id}` has them in full.
#[utoipa::path(
    get, path = "/proofs", tag = "proofs", operation_id = "list_proofs", security(("token" = ["read"])), params(ListProofs),
    responses((status = 200, description = "The proofs", body = Vec<Proof>))
)]
async fn list(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Asked(which): Asked<ListProofs>,
) -> Result<Json<Vec<Proof>>, Problem> {
    let is_no_name = |resource: &String| resource.parse::<ResourceId>().is_err();
    let is_hidden = |team: &String| team.parse::<TeamId>().is_err() || !caller.sees(team);
    let has_none = which.resource.as_ref().is_some_and(is_no_name)
        || which.team.as_ref().is_some_and(is_hidden);
    let filter = ProofFilter {
        resource_id: which.resource,
        team: which.team.or_else(|| caller.team().map(str::to_owned)),
        kind: which.kind,
        outcome: which.outcome,
        since: instant("since", which.since)?,
        before: instant("before", which.before)?,
        limit: limit(which.limit)?,
    };
    // A malformed name has no proofs, nor has a team that the token may not see.
    if has_none {
        return Ok(Json(Vec::new()));
    }
    let proofs = api.catalog.recorded_proofs(&filter).await?;
    Ok(Json(proofs.into_iter().map(listed).collect()))
}

/// Show one proof
///
/// Its `hash` is the SHA-256 of its `previous_hash` and of all its other fields, as docs/reference/proofs.md specifies.
#[utoipa::path(
    get, path = "/proofs/{id}", tag = "proofs", operation_id = "show_proof", security(("token" = ["read"])),
    params(("id" = Uuid, Path, description = "The proof's id")),
    responses((status = 200, description = "The proof", body = Proof))
)]
async fn show(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Named(id): Named,
) -> Result<Json<Proof>, Problem> {
    let nothing = || Problem::no_such("proof", &id);
    let found = Uuid::try_parse(&id).map_err(|_| nothing())?;
    let proof = match api.catalog.proof_with_id(found).await {
        Err(CatalogError::NotFound { .. }) => return Err(nothing()),
        found => found?,
    };
    if !caller.sees(&proof.team) {
        return Err(nothing());
    }
    Ok(Json(proof))
}
