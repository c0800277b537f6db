//! The OpenAPI document: what the operations say of themselves, and what holds for all of them.

use serde_json::{Map, Value, json};
use tsp_api::Problem;
use tsp_api::problem::PROBLEM_JSON;
use tsp_api::task::{ConfigName, TaskOrder};
use utoipa::ToSchema;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response, Schema,
};

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
    add_schema::<Problem>(&mut components);
    // Only parameters name it, and those are not collected.
    add_schema::<TaskOrder>(&mut components);
    add_schema::<ConfigName>(&mut components);
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

fn add_schema<T: ToSchema>(components: &mut Components) {
    let mut parts: Vec<(String, RefOr<Schema>)> = Vec::new();
    T::schemas(&mut parts);
    components.schemas.extend(parts);
    components.schemas.insert(T::name().into_owned(), T::schema());
}

/// Who needs no key on this server.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Access {
    /// Loopback, everywhere.
    pub(crate) dev: bool,
    /// Everybody, on `/metrics`.
    pub(crate) metrics_open: bool,
}

/// The document as it is served: with the answers that follow from each operation's shape.
pub(crate) fn finish(mut document: OpenApi, access: Access) -> Value {
    for (path, item) in &mut document.paths.paths {
        let has_parameters = path.contains('{');
        let key_is_optional = access.dev || access.metrics_open && path == "/metrics";
        for operation in operations(item) {
            finish_operation(operation, has_parameters, key_is_optional);
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
            if let Some(Value::Array(parameters)) = fields.get_mut("parameters") {
                for parameter in parameters {
                    never_null(parameter);
                    if parameter.get("name") == Some(&Value::from("Idempotency-Key")) {
                        parameter["schema"] = idempotency_key();
                    }
                }
            }
            if let Some(Value::Array(variants)) = fields.get_mut("oneOf") {
                variants.iter_mut().for_each(close_tagged);
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// As [`crate::idempotency::IdempotencyKey`] reads it; blanks at its ends never arrive.
fn idempotency_key() -> Value {
    let longest = crate::idempotency::KEY_BYTES_MAX;
    json!({"type": "string", "minLength": 1, "maxLength": longest, "pattern": "^[!-~]([ -~]*[!-~])?$"})
}

/// A parameter is there or not; it has no null.
fn never_null(parameter: &mut Value) {
    let Some(schema) = parameter.get_mut("schema") else { return };
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            schema["type"] = only.clone();
        }
    }
    if let Some(Value::Array(variants)) = schema.get_mut("oneOf") {
        variants.retain(|variant| variant.get("type") != Some(&Value::from("null")));
        if let [only] = variants.as_slice() {
            *schema = only.clone();
        }
    }
}

/// The forms of a tagged object know no other fields.
fn close_tagged(variant: &mut Value) {
    if crate::schema_check::tag(variant).is_some()
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

fn finish_operation(operation: &mut Operation, has_path_parameters: bool, key_is_optional: bool) {
    if operation.security.is_none() {
        let mut ways = vec![SecurityRequirement::new::<_, [&str; 0], &str>(KEY, [])];
        if key_is_optional {
            ways.push(SecurityRequirement::default());
        }
        operation.security = Some(ways);
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
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.as_str() >= "400"
        {
            response.content.entry(PROBLEM_JSON.to_owned()).or_insert_with(problem);
        }
    }
}

/// An operation's own words for a status stay.
fn add_problem(operation: &mut Operation, status: &str, description: &str) {
    let response = || RefOr::T(Response::new(description));
    operation.responses.responses.entry(status.to_owned()).or_insert_with(response);
}

fn problem() -> RefOr<Content> {
    RefOr::T(Content::new(Some(Ref::from_schema_name(Problem::name()))))
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use crate::testing::Server;

    /// Every `$ref` below `value`.
    fn refs<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| refs(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| refs(value, found)),
            _ => {}
        }
    }

    #[tokio::test]
    async fn the_document_is_whole() {
        let server = Server::start().await;
        let document = server.get("/api/v1/openapi.json").await.json();
        let mut found = BTreeSet::new();
        refs(&document, &mut found);
        for reference in found {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id), "{id}");
                assert!(operation["tags"].is_array() && operation["summary"].is_string(), "{method} {path}");
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let problem = response["content"].get("application/problem+json").is_some();
                    assert_eq!(problem, status.as_str() >= "400", "{method} {path} {status}");
                }
                if operation.get("requestBody").is_some() {
                    assert!(operation["responses"].get("415").is_some(), "{id}");
                }
            }
        }
        assert!(ids.len() > 40);
    }

    /// As a server with the default settings serves it, for readers and generators that have none at hand.
    const CHECKED_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

    #[tokio::test]
    async fn the_checked_in_document_is_what_the_server_says() {
        let served = Server::start().await.get("/api/v1/openapi.json").await.json();
        assert!(served == crate::openapi_document());
        let text = std::fs::read_to_string(CHECKED_IN).unwrap_or_default();
        let checked_in: Value = serde_json::from_str(&text).unwrap_or_default();
        assert!(served == checked_in, "run `cargo run -p tsp -- openapi > docs/openapi.json`");
    }

    #[tokio::test]
    async fn a_development_server_says_that_no_key_is_needed() {
        let server = Server::dev().await;
        let document = server.get("/api/v1/openapi.json").await.json();
        let security = &document["paths"]["/api/v1/apps"]["get"]["security"];
        assert_eq!(*security, serde_json::json!([{"api_key": []}, {}]));
    }
}
