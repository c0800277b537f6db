//! Documents as trees, for looking at their shape.

use serde_json::{Map, Number, Value};

use super::tokens::{MalformedJson, Token, Tokens};

/// Deeper than any document of ours; below it stands null.
const LEVELS: usize = 64;

/// The document as a tree of its first 64 levels. What a tree cannot hold is there all the same, as something
/// of its kind: a number beyond all numbers is the largest one, half a surrogate pair a replacement character.
///
/// # Errors
/// [`MalformedJson`].
pub fn tree(text: &str) -> Result<Value, MalformedJson> {
    let mut tokens = Tokens::new(text);
    let mut open: Vec<OpenValue> = Vec::new();
    let mut root = Value::Null;
    while let Some(token) = tokens.advance()? {
        let value = match token {
            // What is too deep is passed over; its place holds null.
            _ if tokens.depth() > LEVELS => continue,
            Token::BeginArray => {
                open.push(OpenValue { name: None, value: Value::Array(Vec::new()) });
                continue;
            }
            Token::BeginObject => {
                open.push(OpenValue { name: None, value: Value::Object(Map::new()) });
                continue;
            }
            Token::Name(name) => {
                if let Some(last) = open.last_mut() {
                    last.name = Some(name.shown());
                }
                continue;
            }
            Token::EndArray | Token::EndObject => {
                // At the last level the beginning was passed over.
                if tokens.depth() == LEVELS {
                    Value::Null
                } else {
                    open.pop().map_or(Value::Null, |open| open.value)
                }
            }
            Token::Text(text) => Value::String(text.shown()),
            Token::Number(text) => Value::Number(number(text)),
            Token::Word(word) => match word {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => Value::Null,
            },
        };
        match open.last_mut() {
            None => root = value,
            Some(OpenValue { value: Value::Array(items), .. }) => items.push(value),
            Some(OpenValue { value: Value::Object(fields), name }) => {
                fields.insert(name.take().unwrap_or_default(), value);
            }
            Some(_) => {}
        }
    }
    Ok(root)
}

struct OpenValue {
    /// Of the member whose value comes next.
    name: Option<String>,
    value: Value,
}

fn number(text: &str) -> Number {
    let largest = || Number::from_f64(if text.starts_with('-') { f64::MIN } else { f64::MAX });
    text.parse().ok().or_else(largest).unwrap_or_else(|| 0.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::testing::any_json;
    use super::*;

    #[test]
    fn what_a_tree_cannot_hold_has_its_kind() {
        assert_eq!(tree("[1e400, -1e400]").unwrap(), json!([f64::MAX, f64::MIN]));
        assert_eq!(tree("{\"a\\ud800\": \"\\ud800\"}").unwrap().as_object().unwrap().len(), 1);
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let mut inner = &tree(&deep(100)).unwrap();
        let mut levels = 0;
        while let Some(next) = inner.get(0) {
            inner = next;
            levels += 1;
        }
        assert_eq!((levels, inner), (LEVELS, &Value::Null));
        assert!(tree("[1").is_err());
    }

    proptest! {
        #[test]
        fn is_what_a_parser_makes(text in any_json()) {
            if let Ok(parsed) = serde_json::from_str::<Value>(&text) {
                prop_assert_eq!(tree(&text).unwrap(), parsed);
            } else {
                prop_assert!(tree(&text).is_ok());
            }
        }
    }
}
