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

use super::{Api, problem::Details};

const TOKEN: &str = "token";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "lastgood",
        description = "Backups of customers' databases: register them, ask for backups and restores, see what is promised and what is true. \
            A token of `lastgood token create` goes into `Authorization: Bearer …`; each operation names the scope that it needs, and `admin` \
            covers the others. What a token that is bound to a team may not see is answered as if it did not exist. Errors are problem \
            details (RFC 9457).",
    ),
    components(schemas(Details)),
    modifiers(&Token),
    tags(
        (name = "resources", description = "What is protected"),
        (name = "backups", description = "Ad-hoc backups and restore points"),
        (name = "restores", description = "Bringing a resource back"),
        (name = "runs", description = "The queue and its history"),
        (name = "queue", description = "Steering the queue"),
        (name = "overview", description = "What is promised, and what is true"),
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
                "A token of `lastgood token create`, bound to scopes and perhaps to a team",
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
            "A fault of lastgood's: tell whoever runs it the request's id",
        ),
        (
            "503",
            "The catalog does not answer, or not in time: try again",
        ),
    ];
    if operation.security.is_some() {
        problems.push((
            "401",
            "No token, or one that is unknown, revoked or expired",
        ));
        problems.push((
            "403",
            "The token lacks the scope, or is bound to a team and this concerns every team",
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
        problems.push(("404", "There is no such thing, or it is another team's"));
    }
    if is_in(|place| matches!(place, ParameterIn::Query | ParameterIn::Header)) {
        problems.push(("400", "The query or a header is not understood"));
    }
    if operation.request_body.is_some() {
        problems.push(("400", "The body is not JSON"));
        problems.push(("413", "The body is larger than 64 KiB"));
        problems.push(("415", "The body is not said to be JSON"));
        problems.push(("422", "The body is not what this route takes"));
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
    let schema = Ref::from_schema_name(Details::name());
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
