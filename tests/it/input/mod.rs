//! Bad input: every field of every request, wrong in every way of its kind, is refused with 400 and
//! named. The cases are made from one valid document by changing one place at a time.

mod configs;
mod requests;

use serde_json::{Value, json};

use crate::harness::Api;

/// What a field holds, and so in which ways it can be wrong.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Name,
    Text(usize),
    /// At most, if it has a bound.
    Count(Option<u64>),
    Share,
    Flag,
    OneOf,
    Duration,
    Time,
    Url,
    Headers,
    Object,
    List,
    /// Any JSON is right.
    Any,
}

/// Values that are wrong for a kind.
fn wrong(kind: Kind) -> Vec<Value> {
    let numbers = || vec![json!(7), json!(-1), json!(1.5)];
    let others = || vec![json!(true), json!([]), json!({})];
    match kind {
        Kind::Any => Vec::new(),
        Kind::Name => {
            let mut bad: Vec<_> = ["", "Upper", "-first", "last-", "sp ace", "ü", "a/b"]
                .iter()
                .map(|text| json!(text))
                .collect();
            bad.push(json!("x".repeat(65)));
            [bad, numbers(), others()].concat()
        }
        Kind::Text(longest) => [vec![json!("x".repeat(longest + 1))], numbers(), others()].concat(),
        Kind::Count(most) => {
            let mut bad = vec![json!(-1), json!(1.5), json!("3"), json!(1e30)];
            bad.extend(most.map(|most| json!(most + 1)));
            [bad, others()].concat()
        }
        Kind::Share => [vec![json!(-0.1), json!(1.1), json!("0.5")], others()].concat(),
        Kind::Flag => vec![json!("true"), json!(1), json!([]), json!({})],
        Kind::OneOf => {
            [vec![json!("none-such"), json!(""), json!("POLICY")], numbers(), vec![json!(true), json!([])]]
                .concat()
        }
        Kind::Duration => {
            let bad = ["", "5", "soon", "-5s", "1.5s", "5 s", "1m1h", "99999999999d", "PT5S"];
            [bad.iter().map(|text| json!(text)).collect(), numbers(), others()].concat()
        }
        Kind::Time => {
            let bad = [
                "",
                "tomorrow",
                "2027-01-01",
                "2027-01-01T00:00:00",
                "2027-13-01T00:00:00Z",
                "2999-01-01T00:00:00Z",
            ];
            [bad.iter().map(|text| json!(text)).collect(), numbers(), others()].concat()
        }
        Kind::Url => {
            let mut bad: Vec<_> =
                ["", "not a url", "/path", "ftp://a.example/", "file:///etc/passwd", "http://"]
                    .iter()
                    .map(|text| json!(text))
                    .collect();
            bad.extend(["http://u:p@a.example/", "http://a.example:22/"].map(|text| json!(text)));
            bad.push(json!(format!("http://a.example/{}", "x".repeat(2_100))));
            [bad, numbers(), others()].concat()
        }
        Kind::Headers => vec![
            json!("x"),
            json!(1),
            json!([]),
            json!({ "bad name": "x" }),
            json!({ "x": 1 }),
            json!({ "x": "line\nbreak" }),
            json!({ "host": "x" }),
            json!({ "content-length": "1" }),
            json!({ "TSP-Task-Id": "1" }),
            json!({ "connection": "close" }),
        ],
        Kind::Object => vec![json!("x"), json!(1), json!(true), json!([])],
        Kind::List => vec![json!("x"), json!(1), json!(true), json!({})],
    }
}

/// One changed document and the field that the answer must name.
struct Case {
    field: String,
    body: Value,
}

/// `retry.max_attempts` of a document, made on the way where it is missing.
fn put(document: &mut Value, field: &str, value: Value) {
    let mut place = document;
    for part in field.split('.') {
        place = &mut place[part];
    }
    *place = value;
}

/// Every field in every wrong way, a field that is too much in every object, and each required one missing.
fn cases(valid: &Value, fields: &[(&str, Kind)], required: &[&str]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (field, kind) in fields {
        for value in wrong(*kind) {
            let mut body = valid.clone();
            put(&mut body, field, value);
            cases.push(Case { field: (*field).to_owned(), body });
        }
        if matches!(kind, Kind::Object) {
            let mut body = valid.clone();
            let name = format!("{field}.no_such_field");
            put(&mut body, &name, json!(1));
            cases.push(Case { field: name, body });
        }
    }
    let mut body = valid.clone();
    body["no_such_field"] = json!(1);
    cases.push(Case { field: "no_such_field".to_owned(), body });
    for field in required {
        let mut body = valid.clone();
        put(&mut body, field, Value::Null);
        cases.push(Case { field: (*field).to_owned(), body });
    }
    cases
}

/// Sends every case; each must be refused with 400, a code of the list, and its field by name.
async fn check(api: &Api, method: reqwest::Method, path: &str, cases: Vec<Case>) {
    let (count, mut problems) = (cases.len(), Vec::new());
    for Case { field, body } in cases {
        let answer = api.send(method.clone(), &format!("/api/v1{path}"), &[], Some(&body)).await;
        let shown = format!("`{field}` in {} → {} {}", summary(&body, &field), answer.status, answer.text);
        if answer.status != 400 {
            problems.push(shown);
            continue;
        }
        let problem = answer.json();
        let codes = ["invalid_field", "unknown_field", "egress_denied", "not_supported", "invalid_json"];
        let named = problem["errors"].as_array().is_some_and(|errors| {
            errors.iter().any(|error| names(error["field"].as_str().unwrap_or(""), &field))
        });
        if !named || !codes.iter().any(|code| problem["code"] == *code) {
            problems.push(shown);
        }
    }
    println!("{method} {path}: {count} wrong documents refused");
    assert!(
        problems.is_empty(),
        "{} of {count} were not refused well:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

/// The field itself, something in it, or the object that holds it.
fn names(named: &str, field: &str) -> bool {
    let inside = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    !named.is_empty() && (inside(field, named) || inside(named, field))
}

fn summary(body: &Value, field: &str) -> String {
    let value = field.split('.').fold(body, |place, part| &place[part]);
    let text = value.to_string();
    text.chars().take(80).collect()
}
