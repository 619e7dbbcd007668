//! What the OpenAPI document says beyond the routes themselves.

use std::sync::Arc;

use utoipa::{
    Modify, OpenApi as _, ToSchema as _,
    openapi::{
        Components, Content, OpenApi, PathItem, Ref, RefOr, Response, ResponseBuilder,
        path::{Operation, ParameterIn},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::router::OpenApiRouter;

use super::Api;
use crate::nouns::ProblemDetails;

const TOKEN: &str = "token";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "lastgood",
        description = "Backups of customers' databases: register them, ask for backups and restores, and compare the promised RPO with the \
            actual exposure. Send a token (`lastgood token create` makes one) as `Authorization: Bearer …`. Each operation names the scope \
            that it needs; `admin` includes the others. For a token that is bound to a team, other teams' resources do not exist. \
            Errors are problem details (RFC 9457).",
    ),
    components(schemas(ProblemDetails)),
    modifiers(&Token),
    tags(
        (name = "resources", description = "Protected databases"),
        (name = "backups", description = "Ad-hoc backups and restore points"),
        (name = "restores", description = "Restoring a resource"),
        (name = "runs", description = "The queue and its history"),
        (name = "proofs", description = "What is proven about restore points"),
        (name = "queue", description = "Pausing, resuming and draining the queue"),
        (name = "overview", description = "Promises, exposure, capabilities and consumers"),
    ),
)]
struct Document;

/// Adds the bearer token's security scheme to the document.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "A token from `lastgood token create`, limited to scopes and perhaps to a team",
            ))
            .build();
        let components = document.components.get_or_insert_with(Components::new);
        components.add_security_scheme(TOKEN, SecurityScheme::Http(scheme));
    }
}

/// Returns a router that collects the document from its routes.
pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Document::openapi())
}

/// Adds to each operation the problems that every operation of its form can answer with.
pub(super) fn complete(document: &mut OpenApi) {
    document.info.license = None;
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            complete_operation(operation);
        }
    }
}

fn complete_operation(operation: &mut Operation) {
    let mut problems = vec![
        (
            "500",
            "A fault in lastgood: tell its operator the request's id",
        ),
        (
            "503",
            "lastgood could not answer now, or not in time: try again; `detail` says why",
        ),
    ];
    if operation.security.is_some() {
        problems.push((
            "401",
            "No token, or one that is unknown, revoked or expired",
        ));
        problems.push((
            "403",
            "The token lacks the scope, or is bound to a team and the request reaches beyond that team",
        ));
    }
    let parameters = operation.parameters.iter().flatten();
    let is_in = |place: fn(&ParameterIn) -> bool| {
        parameters.clone().any(|parameter| match parameter {
            RefOr::T(parameter) => place(&parameter.parameter_in),
            RefOr::Ref(_) => false,
        })
    };
    if is_in(|place| matches!(place, ParameterIn::Path)) {
        problems.push(("404", "It does not exist, or belongs to another team"));
    }
    if is_in(|place| matches!(place, ParameterIn::Query | ParameterIn::Header)) {
        problems.push(("400", "The query or a header is not valid"));
    }
    if operation.request_body.is_some() {
        problems.push(("400", "The body is not JSON"));
        problems.push(("413", "The body is larger than 64 KiB"));
        problems.push(("415", "The `Content-Type` is not `application/json`"));
        problems.push(("422", "The body is JSON, but not what this route accepts"));
    }
    for (status, description) in problems {
        operation
            .responses
            .responses
            .entry(status.to_owned())
            .or_insert_with(|| RefOr::T(problem(description)));
    }
    // An error response that a route describes itself is also a problem.
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
            && response.content.is_empty()
        {
            *response = problem(&response.description);
        }
    }
}

fn problem(description: &str) -> Response {
    let schema = Ref::from_schema_name(ProblemDetails::name());
    ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", Content::new(Some(schema)))
        .build()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ]
    .into_iter()
    .flatten()
}

pub(super) fn methods(item: &PathItem) -> impl Iterator<Item = &'static str> {
    [
        ("GET", item.get.is_some()),
        ("PUT", item.put.is_some()),
        ("POST", item.post.is_some()),
        ("DELETE", item.delete.is_some()),
        ("PATCH", item.patch.is_some()),
    ]
    .into_iter()
    .filter_map(|(method, is_there)| is_there.then_some(method))
}
