//! A document with the server's defaults filled in, so that it can be compared with what the server has.

use serde_json::{Map, Value};

use super::document::Document;

pub(crate) fn normal(document: &Document) -> Map<String, Value> {
    document.body.clone()
}
