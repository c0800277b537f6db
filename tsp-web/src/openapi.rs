//! The OpenAPI document: what the operations say of themselves, and what holds for all of them.

use serde_json::{Map, Value};
use tsp_api::Problem;
use tsp_api::problem::PROBLEM_JSON;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response, Schema,
};
use utoipa::{PartialSchema, ToSchema};

/// The name of the security scheme; an operation with `security(())` needs no key.
const KEY: &str = "api_key";

/// The document before the operations are added.
pub(crate) fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("TSP")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Delayed and cron callbacks. Errors are RFC 9457 problems with a closed list of codes.",
        ))
        .build();
    let mut components = Components::new();
    components.add_security_scheme(
        KEY,
        SecurityScheme::Http(Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("API key").build()),
    );
    let mut problem_parts: Vec<(String, RefOr<Schema>)> = Vec::new();
    Problem::schemas(&mut problem_parts);
    components.schemas.extend(problem_parts);
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// The document as it is served: with the answers that follow from each operation's shape.
pub(crate) fn finish(mut document: OpenApi) -> Value {
    for (path, item) in &mut document.paths.paths {
        let has_parameters = path.contains('{');
        for operation in operations(item) {
            finish_operation(operation, has_parameters);
        }
    }
    let mut document = serde_json::to_value(&document).unwrap_or_default();
    tidy(&mut document);
    document
}

/// Mends what the derived schemas say differently from what the reader does.
pub(crate) fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            // `#[serde(default)]` on an option: the same as absent.
            fields.retain(|name, value| name != "default" || !value.is_null());
            hoist_direction(fields);
            if let Some(Value::Array(variants)) = fields.get_mut("oneOf") {
                variants.iter_mut().for_each(close_tagged);
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// The forms of a tagged object know no other fields.
fn close_tagged(variant: &mut Value) {
    if crate::shape::tag(variant).is_some()
        && let Value::Object(fields) = variant
    {
        fields.entry("additionalProperties").or_insert(Value::Bool(false));
    }
}

/// `readOnly` and `writeOnly` of a list were put on its items.
fn hoist_direction(fields: &mut Map<String, Value>) {
    for name in ["readOnly", "writeOnly"] {
        let items = fields.get_mut("items").and_then(Value::as_object_mut);
        if let Some(direction) = items.and_then(|items| items.remove(name)) {
            fields.insert(name.to_owned(), direction);
        }
    }
}

fn finish_operation(operation: &mut Operation, has_path_parameters: bool) {
    if operation.security.is_none() {
        operation.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(KEY, [])]);
        for (status, why) in [
            ("401", "No valid credentials."),
            ("403", "The credentials do not allow this."),
            ("429", "The rate limit is used up."),
        ] {
            add_problem(operation, status, why);
        }
    }
    let has_body = operation.request_body.is_some();
    let has_query = operation.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty());
    if has_body || has_query {
        add_problem(operation, "400", "The request is wrong; every bad field is named.");
    }
    if has_body {
        add_problem(operation, "413", "The body is too large.");
        add_problem(operation, "415", "The body is not declared as JSON.");
    }
    if has_path_parameters {
        add_problem(operation, "404", "There is no such thing, or it is not the caller's to see.");
    }
    add_problem(operation, "500", "Something is wrong with the server.");
    add_problem(operation, "503", "Not now; `Retry-After` says when.");
}

fn add_problem(operation: &mut Operation, status: &str, description: &str) {
    let content = RefOr::T(Content::new(Some(Ref::from_schema_name(Problem::name()))));
    let problem = || {
        let mut response = Response::new(description);
        response.content.insert(PROBLEM_JSON.to_owned(), content.clone());
        RefOr::T(response)
    };
    let responses = &mut operation.responses.responses;
    match responses.get_mut(status) {
        // Described by the operation itself, with words of its own.
        Some(RefOr::T(response)) if response.content.is_empty() && status >= "400" => {
            response.content.insert(PROBLEM_JSON.to_owned(), content);
        }
        Some(_) => {}
        None => {
            responses.insert(status.to_owned(), problem());
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}
