//! Listing, showing, retrying and cancelling runs.

use std::sync::Arc;

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use lastgood_jobs::resource::{Engine, ResourceId, TeamId};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    access::{Administrator, Reader},
    events,
    problem::{Kind, Problem},
    read::{Asked, Named, Optional, instant, limit, plain},
    resources::EngineName,
};
use crate::{
    catalog::{Mode, Ordered, RunFilter},
    nouns::{Run, RunAndAttempts},
    run::{RunKind, RunState},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(events::follow))
        .routes(routes!(retry))
        .routes(routes!(cancel))
}

/// The longest error and the largest report in a list, so that what a server printed cannot inflate the answer.
const LISTED_CHARS: usize = 1000;
const LISTED_REPORT_BYTES: usize = 4096;

/// Returns the run as lists show it: a long error is cut and a large report left out. `GET /runs/{id}` has both in full.
fn listed(mut run: Run) -> Run {
    if let Some(error) = &mut run.error
        && let Some((end, _)) = error.char_indices().nth(LISTED_CHARS)
    {
        error.truncate(end);
        error.push('…');
    }
    let is_large = |report: &serde_json::Value| report.to_string().len() > LISTED_REPORT_BYTES;
    if run.report.as_ref().is_some_and(is_large) {
        let see = format!("/api/v1/runs/{}", run.id);
        run.report = Some(serde_json::json!({ "left_out": "it is large", "see": see }));
    }
    run
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListRuns {
    /// Only runs of this resource.
    resource: Option<String>,
    /// Only runs in this state.
    #[param(inline)]
    state: Option<RunState>,
    /// Only runs of this kind.
    #[param(inline)]
    kind: Option<RunKind>,
    /// Only runs of this engine.
    #[param(inline, value_type = Option<EngineName>)]
    engine: Option<Engine>,
    /// Only runs of this team's resources. A token that is bound to a team sees its own team's alone.
    team: Option<String>,
    /// Only runs queued at or after this instant.
    since: Option<DateTime<Utc>>,
    /// Only runs queued before this instant: the `created_at` of the last one on the previous page.
    before: Option<DateTime<Utc>>,
    /// How many to list at most; 50 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// List runs, newest first
///
/// Errors of more than 1,000 characters are cut here, and reports of more than 4 KiB are left out: `GET /runs/{id}` has them in full.
#[utoipa::path(
    get, path = "/runs", tag = "runs", operation_id = "list_runs", security(("token" = ["read"])), params(ListRuns),
    responses((status = 200, description = "The runs", body = Vec<Run>))
)]
async fn list(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Asked(which): Asked<ListRuns>,
) -> Result<Json<Vec<Run>>, Problem> {
    let is_no_name = |resource: &String| resource.parse::<ResourceId>().is_err();
    let is_hidden = |team: &String| team.parse::<TeamId>().is_err() || !caller.sees(team);
    let has_none = which.resource.as_ref().is_some_and(is_no_name)
        || which.team.as_ref().is_some_and(is_hidden);
    let filter = RunFilter {
        resource_id: which.resource,
        state: which.state,
        kind: which.kind,
        team: which.team.or_else(|| caller.team().map(str::to_owned)),
        engine: which.engine.map(|engine| engine.to_string()),
        since: instant("since", which.since)?,
        before: instant("before", which.before)?,
        limit: limit(which.limit)?,
    };
    // A malformed name has no runs, nor has a team that the token may not see. Other mistakes in the request were refused above.
    if has_none {
        return Ok(Json(Vec::new()));
    }
    let runs = api.catalog.runs(&filter).await?;
    Ok(Json(runs.into_iter().map(listed).collect()))
}

/// Show one run, with every attempt that has ended
#[utoipa::path(
    get, path = "/runs/{id}", tag = "runs", operation_id = "show_run", security(("token" = ["read"])),
    params(("id" = Uuid, Path, description = "The run's id")),
    responses((status = 200, description = "The run", body = RunAndAttempts))
)]
async fn show(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Named(id): Named,
) -> Result<Json<RunAndAttempts>, Problem> {
    let run = caller.run(&api, &id).await?;
    let attempts = api.catalog.attempts(run.id).await?;
    Ok(Json(RunAndAttempts { run, attempts }))
}

/// Why this is done, for the audit log.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    /// The reason.
    #[serde(default)]
    #[schema(
        min_length = 1,
        max_length = 1000,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$"
    )]
    pub(super) reason: Option<String>,
}

impl Reason {
    pub(super) fn checked(&self) -> Result<Option<&str>, Problem> {
        if let Some(reason) = &self.reason {
            plain("reason", reason)?;
        }
        Ok(self.reason.as_deref())
    }
}

/// Retry a failed or cancelled run
///
/// The run goes back into the queue and gets all its attempts again.
#[utoipa::path(
    post, path = "/runs/{id}/retry", tag = "runs", operation_id = "retry_run", security(("token" = ["admin"])),
    params(("id" = Uuid, Path, description = "The run's id")),
    request_body = Option<Reason>,
    responses(
        (status = 200, description = "The run, queued again", body = Run),
        (status = 409, description = "The run cannot be retried: `detail` says why"),
    )
)]
async fn retry(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Named(id): Named,
    Optional(body): Optional<Reason>,
) -> Result<Json<Run>, Problem> {
    let order = caller.order(body.checked()?);
    let run = caller.run(&api, &id).await?;
    let ordered = api.catalog.retry_run(run.id, &order, Mode::Real).await?;
    done(&api, ordered).await
}

/// Cancel a queued or running run
///
/// From then on its worker can neither publish nor finish it, and stops within seconds.
#[utoipa::path(
    post, path = "/runs/{id}/cancel", tag = "runs", operation_id = "cancel_run", security(("token" = ["admin"])),
    params(("id" = Uuid, Path, description = "The run's id")),
    request_body = Option<Reason>,
    responses(
        (status = 200, description = "The run, cancelled", body = Run),
        (status = 409, description = "The run has already ended"),
    )
)]
async fn cancel(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Named(id): Named,
    Optional(body): Optional<Reason>,
) -> Result<Json<Run>, Problem> {
    let order = caller.order(body.checked()?);
    let run = caller.run(&api, &id).await?;
    let ordered = api.catalog.cancel_run(run.id, &order, Mode::Real).await?;
    done(&api, ordered).await
}

async fn done(api: &Api, ordered: Ordered) -> Result<Json<Run>, Problem> {
    match ordered.refused {
        Some(refusal) => Err(Problem::new(Kind::Conflict, refusal.to_string())),
        None => Ok(Json(api.catalog.run(ordered.id).await?)),
    }
}
