//! Config documents in YAML or JSON: the API's own, with `app` beside `name`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tsp_api::json;
use tsp_core::Name;

use super::payload::Payload;
use super::plan::Current;
use super::yaml::{self, Node};
use crate::failure::{Failure, Result};

pub(super) const PAYLOAD: &str = "payload";
/// The payload as a text of JSON, which is taken to the byte.
pub(super) const PAYLOAD_JSON: &str = "payload_json";

/// What the server tells of a config and nobody can set; an export leaves it out.
pub(super) const READ_ONLY: [&str; 9] = [
    "created_at",
    "next_fire_at",
    "parked",
    "paused",
    "secret_header_names",
    "notice",
    "signing_secret_count",
    "updated_at",
    "version",
];

/// One config as it should be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub(crate) app: String,
    pub(crate) name: String,
    /// As the API takes it: without `app`, what is read-only, and the payload.
    pub(crate) body: Map<String, Value>,
    pub(crate) payload: Option<Payload>,
    /// Where it stands, for messages.
    pub(crate) source: String,
    /// Of an export: what the server has and the document has not.
    pub(crate) left_out: Vec<String>,
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

/// A file holds documents, or lists of them. What is JSON is read as such: its payloads keep their text.
pub(super) fn parse(file: &str, text: &str) -> Result<Vec<Document>> {
    let source = |at: usize| format!("`{file}` (document {})", at + 1);
    if let Some(texts) = json_documents(text) {
        return texts.into_iter().enumerate().map(|(at, text)| from_json(&source(at), text)).collect();
    }
    let nodes = yaml::read(text)
        .map_err(|error| Failure::usage(format!("`{file}` is neither YAML nor JSON: {error}")))?;
    let nodes = nodes.into_iter().filter(|node| !node.is_null()).flat_map(Node::flat);
    nodes.enumerate().map(|(at, node)| from_yaml(&source(at), text, node)).collect()
}

/// The texts of the documents; `None` when it is no JSON.
fn json_documents(text: &str) -> Option<Vec<&str>> {
    let mut documents = Vec::new();
    for document in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        let document = document.ok()?.get();
        if document.starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(document).ok()?;
            documents.extend(items.into_iter().map(RawValue::get));
        } else if document != "null" {
            documents.push(document);
        }
    }
    Some(documents)
}

fn from_json(source: &str, text: &str) -> Result<Document> {
    let unreadable = |why: String| Failure::usage(format!("{source} cannot be read: {why}"));
    if let Some(place) = json::duplicates(text, 1).unwrap_or_default().pop() {
        return Err(unreadable(format!("`{place}` is there twice")));
    }
    let members = json::members(text).ok().flatten().ok_or_else(|| no_config(source))?;
    let mut read = DocumentDraft::default();
    for member in members {
        let name = member.name.shown();
        if name == PAYLOAD {
            read.payload.push(Payload::exact(member.value));
            continue;
        }
        let value = serde_json::from_str(member.value);
        let value = value.map_err(|error| unreadable(format!("`{name}`: {error}")))?;
        read.body.insert(name, value);
    }
    read.finish(source)
}

fn from_yaml(source: &str, text: &str, node: Node) -> Result<Document> {
    let mut read = DocumentDraft::default();
    for (name, node) in node.fields().ok_or_else(|| no_config(source))? {
        if name == PAYLOAD {
            read.payload.push(Payload::meant(&node.to_json(text)));
        } else {
            read.body.insert(name, node.into_value());
        }
    }
    read.finish(source)
}

/// A document on its way.
#[derive(Default)]
struct DocumentDraft {
    body: Map<String, Value>,
    payload: Vec<serde_json::Result<Option<Payload>>>,
}

impl DocumentDraft {
    fn finish(mut self, source: &str) -> Result<Document> {
        match self.body.remove(PAYLOAD_JSON) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => self.payload.push(Payload::exact(text.trim())),
            Some(_) => {
                return Err(Failure::usage(format!("`{PAYLOAD_JSON}` in {source} must be a text of JSON")));
            }
        }
        if self.payload.len() > 1 {
            return Err(Failure::usage(format!(
                "{source} has `{PAYLOAD}` and `{PAYLOAD_JSON}`; leave one of them out"
            )));
        }
        let payload = self.payload.pop().transpose();
        let payload = payload
            .map_err(|error| Failure::usage(format!("the payload in {source} is no good: {error}")))?;
        let mut body = self.body;
        let app = name_in(source, &body, "app")?;
        let name = name_in(source, &body, "name")?;
        body.retain(|field, _| field != "app" && !READ_ONLY.contains(&field.as_str()));
        Ok(Document {
            app,
            name,
            body,
            payload: payload.flatten(),
            source: source.to_owned(),
            left_out: Vec::new(),
        })
    }
}

fn no_config(source: &str) -> Failure {
    Failure::usage(format!("{source} is no config: it must hold `app`, `name`, `kind` and `target`"))
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
pub(crate) fn exported(app: &str, current: &Current) -> Document {
    let kept = current.body.iter().filter(|(field, value)| {
        field.as_str() != "app" && !READ_ONLY.contains(&field.as_str()) && !value.is_null()
    });
    let mut body: Map<String, Value> = kept.map(|(field, value)| (field.clone(), value.clone())).collect();
    // Where null is the default of a field, absent is shorter.
    body.values_mut().for_each(drop_nulls);
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Document {
        app: app.to_owned(),
        name,
        body,
        payload: current.payload.clone(),
        source: "the server".to_owned(),
        left_out: left_out(&current.body),
    }
}

/// What cannot be read back, and what a person holds.
fn left_out(body: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    let secrets = body.get("signing_secret_count").and_then(Value::as_u64).unwrap_or(0);
    if secrets > 0 {
        found.push(format!("signing_secrets ({secrets})"));
    }
    let names = body.get("secret_header_names").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<&str> = names.filter_map(Value::as_str).collect();
    if !names.is_empty() {
        found.push(format!("target.secret_headers ({})", names.join(", ")));
    }
    // Where there is a certificate there is a key.
    if body.get("target").is_some_and(|target| target["tls"]["cert"].is_string()) {
        found.push("target.tls.key".to_owned());
    }
    if body.get("paused").is_some_and(|paused| !paused.is_null()) {
        found.push("paused".to_owned());
    }
    found
}

pub(super) fn drop_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(drop_nulls);
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
    fn a_payload_in_yaml_keeps_its_digits() {
        let text = "app: a\nname: c\npayload: {order: 130775545883395173123456789, price: 1.10}\n";
        let payload = parse("a.yaml", text).unwrap().remove(0).payload.unwrap();
        assert_eq!(payload.text(), "{\"order\":130775545883395173123456789,\"price\":1.10}");
        for (wrong, why) in [
            ("payload: 1\npayload_json: '2'", "leave one of them out"),
            ("payload_json: '{'", "payload"),
            ("payload_json: {a: 1}", "text of JSON"),
            ("payload_json: '{\"a\":1,\"a\":2}'", "`a` is there twice"),
        ] {
            let said = parse("a.yaml", &format!("app: a\nname: c\n{wrong}\n")).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
        assert_eq!(parse("a.yaml", "app: a\nname: c\npayload: null\n").unwrap()[0].payload, None);
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
