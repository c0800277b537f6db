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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<HttpTls>,
}

/// Certificates of a target's own, in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpTls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
    /// Never shown; left out of a PUT it stays with its `cert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// The longest of each, in bytes.
pub const TLS_PEM_BYTES_MAX: usize = 32 * 1024;

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
            .property("tls", tls_schema())
            .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
            .into()
    }
}

fn tls_schema() -> ObjectBuilder {
    let pem = |text: &str| {
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .max_length(Some(TLS_PEM_BYTES_MAX))
            .description(Some(text))
    };
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .description(Some("For an `https` URL. All in PEM."))
        .property("ca", pem("The authorities of the target's certificate, in place of the public ones."))
        .property("cert", pem("The client certificate, with those that lead to its authority."))
        .property("key", pem("The private key of `cert`.").write_only(true))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
}

impl ToSchema for Target {}
