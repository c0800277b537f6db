//! The client itself: where the service is, who calls, how patiently.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::HeaderValue;
use reqwest::Url;
use serde_json::Value;

use crate::error::{Error, Result, causes};
use crate::request::Request;
use crate::retry::RetryRules;

/// All calls are below this path.
pub(crate) const BASE_PATH: &str = "/api/v1";

/// Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) http: reqwest::Client,
    /// With [`BASE_PATH`], without a slash at its end.
    pub(crate) base: Url,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) retry: RetryRules,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.inner.base.as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// `base_url` is where the service listens, without `/api/v1`: `http://tsp.internal:8080`.
    pub fn builder(base_url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            base_url: base_url.into(),
            key: None,
            timeout: Duration::from_secs(30),
            retry: RetryRules::default(),
        }
    }

    /// Any call of the API, with its `path` below `/api/v1` (`/apps/trade/configs?kind=cron`). For calls
    /// that have no method here; names in it must be percent-encoded already.
    pub fn request(&self, method: Method, path: &str) -> Request {
        let text = format!("{}/{}", self.inner.base, path.trim_start_matches('/'));
        let url = Url::parse(&text).map_err(|error| Error::Usage(format!("path `{path}`: {error}")));
        Request::new(self.inner.clone(), method, url)
    }

    /// [`Client::request`] with JSON in and out; an empty answer is null. A payload among it must fit a
    /// [`Value`], which changes long numbers and cannot hold all that the service keeps: for configs there are
    /// [`Client::get_config`] and [`Client::put_config`].
    ///
    /// # Errors
    /// As all calls: [`Error`].
    pub async fn request_json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        if answer.body.is_empty() { Ok(Value::Null) } else { answer.json() }
    }

    /// A call on a path given by its segments, which are percent-encoded here.
    pub(crate) fn call<'a>(&self, method: Method, segments: impl IntoIterator<Item = &'a str>) -> Request {
        let mut url = self.inner.base.clone();
        let mut empty = None;
        if let Ok(mut path) = url.path_segments_mut() {
            for segment in segments {
                // `.` and `..` would vanish from the path and an empty one would change what is meant.
                if matches!(segment, "" | "." | "..") {
                    empty = Some(Error::Usage(format!("`{segment}` is no name, key or id")));
                }
                path.push(segment);
            }
        }
        Request::new(self.inner.clone(), method, empty.map_or(Ok(url), Err))
    }
}

/// Makes a [`Client`].
pub struct ClientBuilder {
    base_url: String,
    key: Option<String>,
    timeout: Duration,
    retry: RetryRules,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

impl ClientBuilder {
    /// The API key. Without one only `complete` and `progress` work, and a development server.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// For one try of one call, answer included. 30 s by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often a submit that cannot happen twice is tried again. 4 by default, 0 for never.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retry.retries = retries;
        self
    }

    /// The longest wait between two tries; a service that asks for a longer one is not tried again.
    /// 10 s by default.
    #[must_use]
    pub fn retry_wait_max(mut self, wait: Duration) -> Self {
        self.retry.wait_max = wait;
        self
    }

    /// # Errors
    /// [`Error::Usage`] when the address is no `http` or `https` URL, the key cannot be a header, or TLS
    /// cannot be set up.
    pub fn build(self) -> Result<Client> {
        let base = base_url(&self.base_url)?;
        let authorization = self.key.as_deref().map(authorization).transpose()?;
        let mut http = reqwest::Client::builder()
            .timeout(self.timeout)
            .connect_timeout(Duration::from_secs(5).min(self.timeout))
            // A redirect would carry the key to an address nobody chose.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tsp-client/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            // The environment's proxy is on another machine: it would be shown the key, and call itself.
            http = http.no_proxy();
        }
        if base.scheme() == "https" {
            // The platform's certificates are used, which need a provider for the process. If the
            // process has one already, that one stays.
            let _ = rustls::crypto::ring::default_provider().install_default();
        } else {
            http = http.tls_backend_preconfigured(no_tls()?);
        }
        let http = http
            .build()
            .map_err(|error| Error::Usage(format!("the client cannot be built: {}", causes(&error))))?;
        Ok(Client { inner: Arc::new(Inner { http, base, authorization, retry: self.retry }) })
    }
}

fn base_url(text: &str) -> Result<Url> {
    let wrong = |why: &str| {
        Error::Usage(format!("base url `{text}` {why}; write for example `http://127.0.0.1:8080`"))
    };
    let trimmed = text.trim_end_matches('/');
    let url = Url::parse(&format!("{trimmed}{BASE_PATH}"))
        .map_err(|error| wrong(&format!("is no url: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("must begin with `http://` or `https://`"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("may hold no query and no fragment"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("may hold no user and no password"));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.');
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn authorization(key: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
        .map_err(|_| Error::Usage("the api key may hold only printable ascii characters".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// For plain http no certificate is ever looked at, so none is loaded: a container without any works too.
fn no_tls() -> Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Usage(format!("tls cannot be set up: {error}")))?;
    Ok(config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_all_its_names() {
        for (text, loopback) in [
            ("http://127.8.0.1:1", true),
            ("http://[::1]", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://localhost:8080", true),
            ("http://LOCALHOST./", true),
            ("http://tsp.localhost", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example.com", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(text).unwrap()), loopback, "{text}");
        }
    }

    #[test]
    fn an_address_is_checked_when_the_client_is_built() {
        for good in ["http://127.0.0.1:8080", "http://tsp.internal/", "http://gate/tsp//"] {
            assert!(Client::builder(good).build().is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1:8080", "ftp://a", "http://a/?b=c", "http://a/#b", "http://u:p@a"] {
            let error = Client::builder(bad).build().expect_err(bad).to_string();
            assert!(error.starts_with("base url"), "{error}");
        }
    }

    #[test]
    fn names_and_keys_are_encoded() {
        let client = Client::builder("http://gate/tsp").build().unwrap();
        let url = |segments: &[&str]| client.call(Method::GET, segments.iter().copied()).url().unwrap();
        assert_eq!(
            url(&["apps", "trade", "keys", "a/b ?%订"]).as_str(),
            "http://gate/tsp/api/v1/apps/trade/keys/a%2Fb%20%3F%25%E8%AE%A2"
        );
        for bad in ["", ".", ".."] {
            assert!(client.call(Method::GET, ["apps", bad]).url().is_err(), "{bad}");
        }
        assert_eq!(
            client.request(Method::GET, "apps?limit=1").url().unwrap().as_str(),
            "http://gate/tsp/api/v1/apps?limit=1"
        );
    }

    #[test]
    fn the_key_never_shows() {
        let client = Client::builder("http://a").key("tsp_secret").build().unwrap();
        assert!(
            !format!("{client:?} {:?}", Client::builder("http://a").key("tsp_secret")).contains("secret")
        );
        assert!(Client::builder("http://a").key("a\nb").build().is_err());
    }
}
