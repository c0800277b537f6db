//! Calls on configs. What is not here goes through [`Client::request`].

use http::Method;
use serde::Serialize;
use serde_json::value::RawValue;
use tsp_api::config::Config;
use tsp_api::task::submit::SubmitAnswer;

use crate::client::Client;
use crate::error::Result;

#[derive(Serialize)]
struct RunBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
}

impl Client {
    /// A config with all its fields. Its payload is text: whatever the service keeps can be read and sent back
    /// to the byte.
    ///
    /// # Errors
    /// As all calls: [`crate::Error`].
    pub async fn get_config(&self, app: &str, config: &str) -> Result<Config> {
        self.call(Method::GET, ["apps", app, "configs", config]).send_json().await
    }

    /// Creates a config, or replaces the one of this name. What is read-only is ignored, and secrets that are
    /// left out stay.
    ///
    /// # Errors
    /// As all calls: [`crate::Error`]; [`crate::Error::Usage`] for one without a name.
    pub async fn put_config(&self, app: &str, config: &Config) -> Result<()> {
        let name = config.name.as_deref().unwrap_or_default();
        self.call(Method::PUT, ["apps", app, "configs", name]).json(config).send().await.map(|_| ())
    }

    /// One occurrence of a config now, of either kind; with the config's own payload if none is given.
    ///
    /// # Errors
    /// As all calls: [`crate::Error`].
    pub async fn run_config(
        &self,
        app: &str,
        config: &str,
        payload: Option<&RawValue>,
    ) -> Result<SubmitAnswer> {
        let path = ["apps", app, "configs", config, "run"];
        self.call(Method::POST, path).json(&RunBody { payload }).send_json().await
    }
}
