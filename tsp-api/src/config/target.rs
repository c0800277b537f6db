//! Where callbacks go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::schema::{AdditionalProperties, SchemaType, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Where callbacks go. Only `http` is supported and documented yet; the others are read to say so.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Target {
    Http(HttpTarget),
    Grpc(BTreeMap<String, Value>),
    Dubbo(BTreeMap<String, Value>),
    Custom(BTreeMap<String, Value>),
}

/// The types of targets that are described and not built yet.
pub const TARGETS_PLANNED: [&str; 3] = ["grpc", "dubbo", "custom"];

/// An HTTP request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpTarget {
    pub url: Option<String>,
    /// By default POST.
    pub method: Option<Method>,
    pub headers: Option<BTreeMap<String, Option<String>>>,
    /// Never shown; left out of a PUT they stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_headers: Option<BTreeMap<String, Option<String>>>,
}

/// The methods of callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    pub const ALL: [Self; 7] =
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == text)
    }
}

impl PartialSchema for Target {
    /// Written out, because what is not supported is not documented.
    fn schema() -> RefOr<Schema> {
        let text_or_null = || SchemaType::from_iter([Type::String, Type::Null]);
        let tag = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["http"]));
        let url = ObjectBuilder::new()
            .schema_type(Type::String)
            .max_length(Some(2048))
            .pattern(Some("^[hH][tT][tT][pP][sS]?://"))
            .description(Some("`http` or `https`; checked against the addresses that callbacks may reach."));
        let headers = || {
            ObjectBuilder::new()
                .schema_type(Type::Object)
                .additional_properties(Some(ObjectBuilder::new().schema_type(text_or_null())))
        };
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .property("type", tag)
            .required("type")
            .property("url", url)
            .required("url")
            .property("method", Method::schema())
            .property("headers", headers())
            .property("secret_headers", headers().write_only(true))
            .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
            .into()
    }
}

impl ToSchema for Target {}
