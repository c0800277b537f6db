//! Lengths of time on the wire: `500ms`, `30s`, `1h30m` (API.md section 1).

use std::borrow::Cow;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tsp_core::Millis;
use tsp_core::duration::{format_duration, parse_duration};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};

/// Whole numbers in falling units, at least one; few enough digits to stay below the longest duration.
const PATTERN: &str = "^([0-9]{1,4}d)?([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?([0-9]{1,9}ms)?$";

/// A length of time in a document. Named so to keep it apart from the standard library's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Length(pub Millis);

impl From<Millis> for Length {
    fn from(length: Millis) -> Self {
        Self(length)
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_duration(self.0))
    }
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        parse_duration(&text).map(Self).map_err(D::Error::custom)
    }
}

impl utoipa::PartialSchema for Length {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(PATTERN))
            .min_length(Some(2))
            .description(Some("Whole numbers in falling units of d, h, m, s, ms, such as `1h30m`."))
            .into()
    }
}

impl utoipa::ToSchema for Length {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Duration")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_only() {
        let length: Length = serde_json::from_str("\"90m\"").unwrap();
        assert_eq!(length, Length(Millis::from_mins(90)));
        assert_eq!(serde_json::to_string(&length).unwrap(), "\"1h30m\"");
        assert!(serde_json::from_str::<Length>("90").is_err());
        assert!(serde_json::from_str::<Length>("\"90\"").unwrap_err().to_string().contains("needs a unit"));
    }
}
