//! Fields of a merge patch, where an absent field and a null one differ: `Some(None)` is null.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

#[expect(clippy::option_option, clippy::ref_option, reason = "the signature that serde asks for")]
pub(crate) fn serialize<S, T>(value: &Option<Option<T>>, serializer: S) -> Result<S::Ok, S::Error>
where
    S: Serializer,
    T: Serialize,
{
    value.as_ref().and_then(Option::as_ref).serialize(serializer)
}
