//! Config documents in YAML or JSON: the API's own, with `app` beside `name`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};
use tsp_core::Name;

use crate::failure::{Failure, Result};

/// What the server tells of a config and nobody can set; an export leaves it out.
pub(super) const READ_ONLY: [&str; 7] = [
    "created_at",
    "next_fire_at",
    "paused",
    "secret_header_names",
    "signing_secret_count",
    "updated_at",
    "version",
];

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Syntax {
    #[default]
    Yaml,
    Json,
}

/// One config as it should be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub(crate) app: String,
    pub(crate) name: String,
    /// As the API takes it: without `app` and what is read-only.
    pub(crate) body: Map<String, Value>,
    /// Where it stands, for messages.
    pub(crate) source: String,
}

/// All documents of all files; `-` is standard input, a folder stands for the files in it.
pub(crate) fn read_files(paths: &[PathBuf]) -> Result<Vec<Document>> {
    let mut documents: Vec<Document> = Vec::new();
    let mut seen = BTreeSet::new();
    for path in expand(paths)? {
        let text = if path == Path::new("-") {
            std::io::read_to_string(std::io::stdin())
        } else {
            std::fs::read_to_string(&path)
        };
        let text =
            text.map_err(|error| Failure::usage(format!("`{}` cannot be read: {error}", path.display())))?;
        for document in parse(&path.display().to_string(), &text)? {
            if !seen.insert((document.app.clone(), document.name.clone())) {
                let (app, name) = (&document.app, &document.name);
                return Err(Failure::usage(format!(
                    "`{app}/{name}` stands twice, again in {}",
                    document.source
                )));
            }
            documents.push(document);
        }
    }
    if documents.is_empty() {
        return Err(Failure::usage("the files hold no config")
            .advise("`tsp config export` shows what one looks like"));
    }
    Ok(documents)
}

fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let unreadable = |error| Failure::usage(format!("`{}` cannot be read: {error}", path.display()));
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            if ["yaml", "yml", "json"].contains(&ending) {
                inside.push(file);
            }
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

/// JSON is YAML too, so there is one parser. A file holds documents, or lists of them.
fn parse(file: &str, text: &str) -> Result<Vec<Document>> {
    // YAML 1.2: `y`, `on` and `no` are words; only `true` and `false` are not.
    let options = serde_saphyr::options! { strict_booleans: true };
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| Failure::usage(format!("`{file}` is neither YAML nor JSON: {error}")))?;
    let flat = values.into_iter().flat_map(|value| match value {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        other => vec![other],
    });
    flat.enumerate().map(|(at, value)| document(&format!("`{file}` (document {})", at + 1), value)).collect()
}

fn document(source: &str, value: Value) -> Result<Document> {
    let Value::Object(mut body) = value else {
        return Err(Failure::usage(format!(
            "{source} is no config: it must hold `app`, `name`, `kind` and `target`"
        )));
    };
    let app = name_in(source, &body, "app")?;
    let name = name_in(source, &body, "name")?;
    body.retain(|field, _| field != "app" && !READ_ONLY.contains(&field.as_str()));
    Ok(Document { app, name, body, source: source.to_owned() })
}

fn name_in(source: &str, body: &Map<String, Value>, field: &str) -> Result<String> {
    let text = body.get(field).and_then(Value::as_str).ok_or_else(|| {
        Failure::usage(format!("{source} has no `{field}`"))
            .advise(format!("add `{field}: …`; it must be a text"))
    })?;
    // It becomes part of a path.
    Name::new(text).map_err(|error| Failure::usage(format!("`{field}` in {source}: `{text}` {error}")))?;
    Ok(text.to_owned())
}

/// A config of the server as a document: without what nobody can set and what is not set.
pub(crate) fn exported(app: &str, body: &Map<String, Value>) -> Document {
    let kept = body.iter().filter(|(field, value)| {
        field.as_str() != "app" && !READ_ONLY.contains(&field.as_str()) && !value.is_null()
    });
    let mut body: Map<String, Value> = kept.map(|(field, value)| (field.clone(), value.clone())).collect();
    // Where null is the default of a field, absent is shorter. A payload's nulls are its own.
    for (_, value) in body.iter_mut().filter(|(field, _)| *field != "payload") {
        drop_nulls(value);
    }
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Document { app: app.to_owned(), name, body, source: "the server".to_owned() }
}

pub(super) fn drop_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(drop_nulls);
    }
}

/// What a reader looks for first.
const HEAD: [&str; 6] = ["name", "kind", "description", "owner", "target", "schedule"];

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let head = HEAD.iter().filter_map(|field| self.body.get_key_value(*field));
        let rest = self.body.iter().filter(|(field, _)| !HEAD.contains(&field.as_str()));
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("app", &self.app)?;
        for (field, value) in head.chain(rest) {
            map.serialize_entry(field, value)?;
        }
        map.end()
    }
}

/// Documents as a file that [`read_files`] reads again.
pub(crate) fn write(documents: &[Document], syntax: Syntax) -> Result<String> {
    let unwritable = |error: String| Failure::failed(format!("cannot write the configs: {error}"));
    match syntax {
        Syntax::Json => {
            let text =
                serde_json::to_string_pretty(documents).map_err(|error| unwritable(error.to_string()))?;
            Ok(text + "\n")
        }
        Syntax::Yaml => {
            let mut text = String::new();
            for document in documents {
                let body =
                    serde_saphyr::to_string(document).map_err(|error| unwritable(error.to_string()))?;
                text.push_str("---\n");
                text.push_str(body.trim_start_matches("---\n").trim_end());
                text.push('\n');
            }
            Ok(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const YAML: &str = "app: trade\nname: close-order\nkind: delayed\nversion: 7\n\
        target:\n  type: http\n  url: http://orders.internal/close\n\
        retry:\n  backoff: {type: list, delays: [1s, 1m]}\n\
        notify:\n  - on: [failed]\n";

    #[test]
    fn yaml_and_json_are_read_alike() {
        let from_yaml = parse("a.yaml", YAML).unwrap();
        assert_eq!(from_yaml.len(), 1);
        let document = &from_yaml[0];
        assert_eq!((document.app.as_str(), document.name.as_str()), ("trade", "close-order"));
        // `on` is a word, not a boolean; durations stay texts; what is read-only and `app` are gone.
        assert_eq!(document.body["notify"], json!([{ "on": ["failed"] }]));
        assert_eq!(document.body["retry"]["backoff"]["delays"], json!(["1s", "1m"]));
        assert!(!document.body.contains_key("version") && !document.body.contains_key("app"));
        let mut object = document.body.clone();
        object.insert("app".to_owned(), json!("trade"));
        let as_json = serde_json::to_string(&[object]).unwrap();
        assert_eq!(parse("a.json", &as_json).unwrap()[0].body, document.body);
    }

    #[test]
    fn a_file_holds_several_documents() {
        let text = "# two\napp: a\nname: x\n---\napp: a\nname: y\n---\n";
        let names: Vec<_> =
            parse("a.yaml", text).unwrap().into_iter().map(|document| document.name).collect();
        assert_eq!(names, ["x", "y"]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let config = json!({
            "name": "close-order", "kind": "cron", "version": 4, "priority": 2, "enabled": true, "payload": null,
            "labels": { "yes": "no", "on": "1e3", "empty": "", "colon": "a: b", "lines": "a\nb\n" },
            "schedule": { "type": "cron", "expr": "0 0 2 * * ?", "timezone": "Asia/Shanghai" },
            "retry": { "jitter": 0.1, "backoff": { "factor": 2.0 } },
        });
        let document = exported("trade", config.as_object().unwrap());
        assert!(!document.body.contains_key("payload") && !document.body.contains_key("version"));
        for syntax in [Syntax::Yaml, Syntax::Json] {
            let text = write(&[document.clone(), document.clone()], syntax).unwrap();
            let read = parse("x", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(read.len(), 2, "{text}");
            assert_eq!((&read[0].app, &read[0].body), (&document.app, &document.body), "{text}");
            let first_lines: String = text.lines().take(4).collect();
            assert!(first_lines.contains("trade") && first_lines.contains("close-order"), "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        for (text, wanted) in [
            ("name: x", "no `app`"),
            ("app: a", "no `name`"),
            ("app: a\nname: 'X y'", "`X y`"),
            ("just text", "is no config"),
            ("a: [", "neither YAML nor JSON"),
        ] {
            let said = parse("a.yaml", text).expect_err(text).to_string();
            assert!(said.contains(wanted) && said.contains("a.yaml"), "{text}: {said}");
        }
    }
}
