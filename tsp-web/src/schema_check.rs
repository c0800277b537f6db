//! Names every field of a body that does not fit its schema, the same schema that the OpenAPI document
//! shows. Runs only after the strict reader has refused the body, so it may be slow.

use serde_json::{Map, Value};
use tsp_api::config::TARGETS_PLANNED;
use tsp_api::duration::Length;
use tsp_api::{ErrorCode, Errors, Time};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

/// Takes what is wrong out of `body`, so that the rest can be read and checked too.
pub(crate) fn drop_unknown<T: ToSchema>(body: &mut Value) -> Errors {
    let mut named: Vec<(String, RefOr<Schema>)> = Vec::new();
    T::schemas(&mut named);
    let named = named.into_iter().map(|(name, schema)| (name, json(&schema))).collect();
    let mut walk = SchemaCheck { named, errors: Errors::new() };
    let root = json(&T::schema());
    walk.check(&root, body, "");
    walk.errors
}

fn json(schema: &RefOr<Schema>) -> Value {
    let mut schema = serde_json::to_value(schema).unwrap_or_default();
    crate::openapi::tidy(&mut schema);
    schema
}

struct SchemaCheck {
    named: Map<String, Value>,
    errors: Errors,
}

impl SchemaCheck {
    /// Whether `value` may stay. What is wrong inside it has been taken out.
    fn check(&mut self, schema: &Value, value: &mut Value, path: &str) -> bool {
        let schema = self.resolved(schema);
        if let Some(variants) = schema.get("oneOf").and_then(Value::as_array) {
            return self.check_one_of(variants, value, path);
        }
        if !has_type(&schema, value) {
            self.errors.add(path, format!("must be {}", type_words(&schema)));
            return false;
        }
        if let (Some((field, text)), Value::Object(fields)) = (tag(&schema), &*value)
            && fields.get(field).and_then(Value::as_str) != Some(text)
        {
            let given = fields.get(field).and_then(Value::as_str);
            if text == "http" && given.is_some_and(|given| TARGETS_PLANNED.contains(&given)) {
                let message = format!("is not supported yet, only `{text}` is");
                self.errors.add_as(ErrorCode::NotSupported, joined(path, field), message);
            } else {
                self.errors.add(joined(path, field), format!("must be `{text}`"));
            }
            return false;
        }
        match value {
            Value::Object(fields) => {
                self.check_object(&schema, fields, path);
                true
            }
            Value::Array(items) => {
                if let Some(item) = schema.get("items") {
                    let mut at = 0;
                    items.retain_mut(|value| {
                        at += 1;
                        self.check(item, value, &format!("{path}[{}]", at - 1))
                    });
                }
                true
            }
            Value::String(text) => self.check_text(&schema, text, path),
            _ => true,
        }
    }

    fn check_object(&mut self, schema: &Value, fields: &mut Map<String, Value>, path: &str) {
        let none = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let others = schema.get("additionalProperties");
        fields.retain(|name, value| {
            let path = joined(path, name);
            match (properties.get(name), others) {
                // A null counts as absent; whether the field may be absent is asked later.
                _ if value.is_null() => properties.contains_key(name) || self.known(others, &path),
                (Some(schema), _) | (None, Some(schema @ Value::Object(_))) => {
                    self.check(schema, value, &path)
                }
                (None, _) => self.known(others, &path),
            }
        });
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if fields.get(name).is_none_or(Value::is_null) {
                self.errors.missing(&joined(path, name));
            }
        }
    }

    /// Whether names beyond the listed ones are allowed.
    fn known(&mut self, others: Option<&Value>, path: &str) -> bool {
        let closed = others == Some(&Value::Bool(false));
        if closed {
            self.errors.add_as(ErrorCode::UnknownField, path, "does not exist");
        }
        !closed
    }

    /// Alternatives are told apart by a field with a fixed text (`type`), or by their JSON type.
    fn check_one_of(&mut self, variants: &[Value], value: &mut Value, path: &str) -> bool {
        let variants: Vec<Value> = variants.iter().map(|variant| self.resolved(variant)).collect();
        let mut tags = Vec::new();
        for variant in &variants {
            match tag(variant) {
                Some((field, text)) => {
                    if value.get(field).and_then(Value::as_str) == Some(text) {
                        return self.check(variant, value, path);
                    }
                    tags.push((field.to_owned(), text.to_owned()));
                }
                None if variant.get("type") != Some(&Value::from("null")) && has_type(variant, value) => {
                    return self.check(variant, value, path);
                }
                None => {}
            }
        }
        match tags.first() {
            Some((field, _)) if value.is_object() => {
                let words: Vec<_> = tags.iter().map(|(_, text)| format!("`{text}`")).collect();
                let message = format!("must be {}", either(&words));
                self.errors.add(joined(path, field), message);
            }
            Some(_) => self.errors.add(path, "must be an object"),
            None => self.errors.add(path, "has the wrong type"),
        }
        false
    }

    fn check_text(&mut self, schema: &Value, text: &str, path: &str) -> bool {
        let wrong = if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
            let shown: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
            (!words.contains(&text)).then(|| format!("must be {}", either(&shown)))
        } else if *schema == json(&<Length as utoipa::PartialSchema>::schema()) {
            tsp_core::duration::parse_duration(text).err().map(|error| error.to_string())
        } else if schema.get("format") == json(&<Time as utoipa::PartialSchema>::schema()).get("format") {
            tsp_api::time::parse_time(text).err().map(|error| error.to_string())
        } else {
            None
        };
        let good = wrong.is_none();
        if let Some(message) = wrong {
            self.errors.add(path, message);
        }
        good
    }

    fn resolved(&self, schema: &Value) -> Value {
        let name = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
        name.and_then(|name| self.named.get(name)).unwrap_or(schema).clone()
    }
}

/// The field with a fixed text by which a variant is known.
pub(crate) fn tag(variant: &Value) -> Option<(&str, &str)> {
    let properties = variant.get("properties")?.as_object()?;
    properties.iter().find_map(|(name, schema)| match schema.get("enum")?.as_array()?.as_slice() {
        [Value::String(text)] => Some((name.as_str(), text.as_str())),
        _ => None,
    })
}

fn has_type(schema: &Value, value: &Value) -> bool {
    types(schema).is_empty() || types(schema).iter().any(|name| is_a(value, name, schema))
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_a(value: &Value, name: &str, schema: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => is_integer(value, schema),
        _ => false,
    }
}

/// Whole, and within the schema's bounds or, without them, within 32 bits.
fn is_integer(value: &Value, schema: &Value) -> bool {
    let bound = |name: &str, otherwise: i64| schema.get(name).and_then(Value::as_i64).unwrap_or(otherwise);
    let range = bound("minimum", 0)..=bound("maximum", i64::from(u32::MAX));
    value.as_i64().is_some_and(|number| range.contains(&number))
}

fn type_words(schema: &Value) -> String {
    let words: Vec<String> = types(schema)
        .into_iter()
        .filter(|&name| name != "null")
        .map(|name| match name {
            "boolean" => "true or false".to_owned(),
            "string" => "a text".to_owned(),
            "array" => "a list".to_owned(),
            "object" => "an object".to_owned(),
            "integer" => integer_words(schema),
            other => format!("a {other}"),
        })
        .collect();
    either(&words)
}

fn integer_words(schema: &Value) -> String {
    match (schema.get("minimum"), schema.get("maximum")) {
        (Some(min), Some(max)) => format!("a whole number from {min} to {max}"),
        (Some(min), None) => format!("a whole number from {min} on"),
        _ => "a whole number that is not negative".to_owned(),
    }
}

fn either(words: &[String]) -> String {
    match words {
        [] => "something else".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Doc {
        name: Option<String>,
        count: Option<u32>,
        wait: Option<Length>,
        at: Option<Time>,
        labels: Option<BTreeMap<String, String>>,
        back: Option<Back>,
        list: Option<Vec<Inner>>,
    }

    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Back {
        List { delays: Option<Vec<Length>> },
        Fixed { delay: Option<Length> },
    }

    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Inner {
        on: Option<bool>,
        #[serde(default)]
        #[schema(required)]
        off: Option<bool>,
    }

    fn problems(mut body: Value) -> Vec<(String, String)> {
        let errors = drop_unknown::<Doc>(&mut body);
        serde_json::from_value::<Doc>(body.clone()).unwrap_or_else(|error| panic!("{body} {error}"));
        errors.into_fields().into_iter().map(|error| (error.field, error.message)).collect()
    }

    #[test]
    fn names_everything_and_leaves_what_can_be_read() {
        let found = problems(json!({
            "name": 5, "count": -1, "wait": "5 minutes", "at": "yesterday", "more": 1,
            "labels": {"a": 1, "b": "x"}, "back": {"type": "list", "delays": ["1s", 7, "x"], "delay": "1s"},
            "list": [{"on": 1}, 5, {"off": true, "of": null}],
        }));
        let fields: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
        for field in [
            "name",
            "count",
            "wait",
            "at",
            "more",
            "labels.a",
            "back.delays[1]",
            "back.delays[2]",
            "back.delay",
            "list[0].on",
            "list[0].off",
            "list[1]",
            "list[2].of",
        ] {
            assert!(fields.contains(&field), "{field} in {found:?}");
        }
        assert_eq!(found.len(), 13, "{found:?}");
    }

    #[test]
    fn says_what_would_be_right() {
        let message = |body: Value| problems(body).remove(0).1;
        assert_eq!(message(json!({"back": {"type": "x"}})), "must be `list` or `fixed`");
        assert_eq!(message(json!({"back": 1})), "must be an object");
        assert_eq!(message(json!({"name": true})), "must be a text");
        assert_eq!(message(json!({"more": 1})), "does not exist");
        assert!(message(json!({"wait": "1x"})).contains("needs a unit"));
    }

    #[test]
    fn nulls_are_absent() {
        assert!(problems(json!({"name": null, "back": null, "list": null, "labels": null})).is_empty());
    }
}
