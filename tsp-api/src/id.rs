//! Ids on the wire: decimal strings, because JSON numbers lose digits in many languages.

use std::borrow::Cow;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tsp_core::{ConfigId, KeyId, NodeId, TaskId};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};

/// The id of a task, key, config or node in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub i64);

/// Reads an id: a positive number without leading zeros.
pub fn parse_id(text: &str) -> Option<i64> {
    // A task's id follows the same rule, and its parser is the strictest there is.
    text.parse::<TaskId>().ok().map(TaskId::get)
}

impl From<TaskId> for Id {
    fn from(id: TaskId) -> Self {
        Self(id.get())
    }
}

impl From<KeyId> for Id {
    fn from(id: KeyId) -> Self {
        Self(id.get())
    }
}

impl From<ConfigId> for Id {
    fn from(id: ConfigId) -> Self {
        Self(id.get())
    }
}

impl From<NodeId> for Id {
    fn from(id: NodeId) -> Self {
        Self(id.get())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        parse_id(&text).map(Self).ok_or_else(|| D::Error::custom("must be an id: a decimal number as text"))
    }
}

impl utoipa::PartialSchema for Id {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[1-9][0-9]{0,17}$")).into()
    }
}

impl utoipa::ToSchema for Id {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_without_leading_zeros() {
        assert_eq!(serde_json::to_string(&Id(730_112)).unwrap(), "\"730112\"");
        assert_eq!(serde_json::from_str::<Id>("\"730112\"").unwrap(), Id(730_112));
        for bad in ["730112", "\"0730112\"", "\"\"", "\"-1\"", "\"9223372036854775808\""] {
            assert!(serde_json::from_str::<Id>(bad).is_err(), "{bad}");
        }
    }
}
