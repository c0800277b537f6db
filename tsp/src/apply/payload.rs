//! Payloads, which are text all the way: a tree would change their numbers and could not hold some of them.

use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;
use tsp_api::json;

/// Deeper ones are written as text.
const LEVELS_MAX: usize = 16;

/// The payload of a config.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    text: Box<RawValue>,
    /// Its text counts, and not only what it says.
    exact: bool,
}

impl Payload {
    /// Of this very text; `None` for a null, which is none.
    pub(super) fn exact(text: &str) -> serde_json::Result<Option<Self>> {
        Self::read(text, true)
    }

    /// Of a document that has it in another notation.
    pub(super) fn meant(text: &str) -> serde_json::Result<Option<Self>> {
        Self::read(text, false)
    }

    fn read(text: &str, exact: bool) -> serde_json::Result<Option<Self>> {
        let text: Box<RawValue> = serde_json::from_str(text)?;
        if let Some(place) = json::duplicates(text.get(), 1).unwrap_or_default().pop() {
            return Err(de::Error::custom(format!("`{place}` is there twice")));
        }
        Ok((text.get() != "null").then_some(Self { text, exact }))
    }

    pub(crate) fn text(&self) -> &str {
        self.text.get()
    }

    /// Whether a server that has `other` must get this one.
    pub(super) fn is(&self, other: &Self) -> bool {
        if self.exact {
            self.text() == other.text()
        } else {
            json::digest(self.text()) == json::digest(other.text())
        }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self { text, exact: true })
    }
}

/// JSON text in the notation of any serialiser, as far as that can hold it.
pub(super) struct JsonNotation<'a>(pub(super) &'a str);

impl<'a> JsonNotation<'a> {
    /// `None` for what is nested too deep to be read as a block.
    pub(super) fn of(payload: &'a Payload) -> Option<Self> {
        let text = payload.text();
        json::depth(text).is_ok_and(|depth| depth <= LEVELS_MAX).then_some(Self(text))
    }
}

impl Serialize for JsonNotation<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0;
        if let Some(members) = json::members(text).map_err(S::Error::custom)? {
            let mut out = serializer.serialize_map(Some(members.len()))?;
            for member in members {
                out.serialize_entry(&member.name.shown(), &JsonNotation(member.value))?;
            }
            return out.end();
        }
        if text.starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(S::Error::custom)?;
            let mut out = serializer.serialize_seq(Some(items.len()))?;
            for item in items {
                out.serialize_element(&JsonNotation(item.get()))?;
            }
            return out.end();
        }
        let scalar: serde_json::Value = serde_json::from_str(text).map_err(S::Error::custom)?;
        scalar.serialize(serializer)
    }
}
