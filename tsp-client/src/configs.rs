//! Calls on configs that answer with tasks. All else about configs goes through [`Client::request_json`].

use http::Method;
use serde::Serialize;
use serde_json::value::RawValue;
use tsp_api::task::submit::SubmitAnswer;

use crate::client::Client;
use crate::error::Result;

#[derive(Serialize)]
struct RunBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
}

impl Client {
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
