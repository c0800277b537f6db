//! Documents as files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::ValueEnum;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::document::{Document, PAYLOAD, PAYLOAD_JSON, parse};
use super::payload::{JsonNotation, Payload};
use super::yaml;
use crate::failure::{Failure, Result};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Syntax {
    #[default]
    Yaml,
    Json,
}

/// What a reader looks for first.
const HEAD: [&str; 6] = ["name", "kind", "description", "owner", "target", "schedule"];

impl Document {
    fn fields(&self) -> impl Iterator<Item = (&String, &Value)> {
        let head = HEAD.iter().filter_map(|field| self.body.get_key_value(*field));
        head.chain(self.body.iter().filter(|(field, _)| !HEAD.contains(&field.as_str())))
    }

    /// What is sent to the server.
    pub(super) fn sent(&self) -> DocumentBody<'_> {
        DocumentBody { document: self, app: None }
    }
}

/// A document as JSON, its payload in its own text.
pub(super) struct DocumentBody<'a> {
    document: &'a Document,
    app: Option<&'a str>,
}

impl Serialize for DocumentBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(app) = self.app {
            map.serialize_entry("app", app)?;
        }
        for (field, value) in self.document.fields() {
            map.serialize_entry(field, value)?;
        }
        if let Some(payload) = &self.document.payload {
            map.serialize_entry(PAYLOAD, payload)?;
        }
        map.end()
    }
}

/// A document as YAML, without its payload.
struct Head<'a>(&'a Document);

impl Serialize for Head<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("app", &self.0.app)?;
        for (field, value) in self.0.fields() {
            map.serialize_entry(field, value)?;
        }
        map.end()
    }
}

/// Documents as a file that is read again.
pub(crate) fn write(documents: &[Document], syntax: Syntax) -> Result<String> {
    let unwritable = |error: String| Failure::failed(format!("cannot write the configs: {error}"));
    match syntax {
        Syntax::Json => {
            let all: Vec<DocumentBody<'_>> = documents
                .iter()
                .map(|document| DocumentBody { document, app: Some(&document.app) })
                .collect();
            let text = serde_json::to_string_pretty(&all).map_err(|error| unwritable(error.to_string()))?;
            Ok(text + "\n")
        }
        Syntax::Yaml => {
            let mut text = String::new();
            for document in documents {
                text.push_str("---\n");
                for left_out in &document.left_out {
                    let _ = writeln!(text, "# left out: {left_out}");
                }
                let body = yaml_of(&Head(document)).map_err(unwritable)?;
                text.push_str(&body);
                if let Some(payload) = &document.payload {
                    text.push_str(&yaml_payload(payload));
                }
            }
            Ok(text)
        }
    }
}

fn yaml_of(value: &impl Serialize) -> std::result::Result<String, String> {
    let text = serde_saphyr::to_string(value).map_err(|error| error.to_string())?;
    Ok(text.trim_start_matches("---\n").trim_end().to_owned() + "\n")
}

/// As a block where that is read again to the byte, else as a text of JSON.
fn yaml_payload(payload: &Payload) -> String {
    let as_block =
        JsonNotation::of(payload).and_then(|block| yaml_of(&BTreeMap::from([(PAYLOAD, block)])).ok());
    let as_text = yaml_of(&BTreeMap::from([(PAYLOAD_JSON, payload.text())])).ok();
    let is_read_again = |yaml: &String| {
        let read = parse("", &format!("app: a\nname: a\n{yaml}"));
        read.is_ok_and(|read| read.first().and_then(|read| read.payload.as_ref()) == Some(payload))
    };
    let found = as_block.into_iter().chain(as_text).find(is_read_again);
    found.unwrap_or_else(|| format!("{PAYLOAD_JSON}: {}\n", yaml::quoted(payload.text())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use tsp_api::json;

    use super::super::document::exported;
    use super::super::plan::Current;
    use super::*;

    fn current(config: &Value, payload: Option<&str>) -> Current {
        let payload = payload.map(|text| Payload::exact(text).unwrap().unwrap());
        let mut body = config.as_object().unwrap().clone();
        body.remove("payload");
        Current { version: 4, body, payload }
    }

    /// A payload as it comes out of a file that it was written to, and that file.
    fn there_and_back(payload: &str, syntax: Syntax) -> (String, String) {
        let document = exported("a", &current(&json!({ "name": "c" }), Some(payload)));
        let text = write(&[document], syntax).unwrap();
        let read = parse("x", &text).unwrap_or_else(|error| panic!("{error}\n{text}")).remove(0);
        (read.payload.map(|payload| payload.text().to_owned()).unwrap_or_default(), text)
    }

    #[test]
    fn payloads_come_back_to_the_byte_and_are_blocks_where_they_can_be() {
        let deep = "[".repeat(3_000) + &"]".repeat(3_000);
        for (payload, block) in [
            ("{\"z\":1,\"a\":[true,null,\"x: y\",\"\",{\"订\":1.5}]}", true),
            ("[]", true),
            ("{}", true),
            ("7", true),
            ("\"text\"", true),
            ("false", true),
            ("[-0,1e2,1.10,18446744073709551615]", false),
            ("{\"n\": 1}", false),
            ("130775545883395173123456789", false),
            ("1e400", false),
            ("\"\\ud800\"", false),
            ("{\"\\ud800\":1}", false),
            ("\"\\u0041\"", false),
            ("\"\u{7f}\u{85}\u{2028}\u{feff}\"", true),
            ("[1,\r\n\t 2]", false),
            (&deep, false),
        ] {
            for syntax in [Syntax::Yaml, Syntax::Json] {
                let (back, text) = there_and_back(payload, syntax);
                assert_eq!(back, payload, "{text}");
                let as_text = text.contains("payload_json");
                assert!(syntax == Syntax::Json || as_text != block, "{payload}\n{text}");
            }
        }
    }

    #[test]
    fn an_export_says_what_it_leaves_out() {
        let config = json!({
            "name": "c", "signing_secret_count": 2, "secret_header_names": ["X-A", "X-B"],
            "target": { "type": "http", "tls": { "cert": "a" } },
            "paused": { "by": "ann", "at": "2026-11-21T10:30:00.000Z", "note": null },
        });
        let text = write(&[exported("a", &current(&config, None))], Syntax::Yaml).unwrap();
        let head = "---\n# left out: signing_secrets (2)\n# left out: target.secret_headers (X-A, X-B)\n# left out: target.tls.key\n# left out: paused\n";
        assert!(text.starts_with(head), "{text}");
        assert_eq!(parse("x", &text).unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn any_payload_comes_back(
            number in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,4})?",
            text in any::<String>(),
            units in prop::collection::vec(any::<u16>(), 0..6),
            blank in "[ \t\r\n]{0,3}",
        ) {
            let text = serde_json::to_string(&text).unwrap();
            let escaped: Vec<String> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let escaped = escaped.concat();
            let payload = format!("{{{text}:{blank}[{number},{text}{blank}],\"{escaped}x\":{{\"k\":\"{escaped}\"}}}}");
            prop_assume!(json::duplicates(&payload, 1).unwrap().is_empty());
            for payload in [payload.as_str(), &text, &number, &format!("\"{escaped}\"")] {
                for syntax in [Syntax::Yaml, Syntax::Json] {
                    let (back, text) = there_and_back(payload, syntax);
                    prop_assert_eq!(&back, payload, "{}", text);
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let config = json!({
            "name": "close-order", "kind": "cron", "version": 4, "priority": 2, "enabled": true, "payload": null,
            "labels": { "yes": "no", "on": "1e3", "empty": "", "colon": "a: b", "lines": "a\nb\n" },
            "schedule": { "type": "cron", "expr": "0 0 2 * * ?", "timezone": "Asia/Shanghai" },
            "retry": { "jitter": 0.1, "backoff": { "factor": 2.0 } },
        });
        let document = exported("trade", &current(&config, None));
        assert!(document.payload.is_none() && !document.body.contains_key("version"));
        for syntax in [Syntax::Yaml, Syntax::Json] {
            let text = write(&[document.clone(), document.clone()], syntax).unwrap();
            let read = parse("x", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(read.len(), 2, "{text}");
            assert_eq!((&read[0].app, &read[0].body), (&document.app, &document.body), "{text}");
            let first_lines: String = text.lines().take(4).collect();
            assert!(first_lines.contains("trade") && first_lines.contains("close-order"), "{text}");
        }
    }
}
