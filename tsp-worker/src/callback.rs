//! The handler behind every callback: by the target of the config.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_consumer_core::{TaskContext, TaskHandler};
use tsp_core::config::Target;
use tsp_core::outcome::Verdict;

use crate::http::{Call, HttpHandler};

/// Calls back by HTTP.
#[derive(Debug, Clone)]
pub struct CallbackHandler {
    http: Arc<HttpHandler>,
}

impl CallbackHandler {
    pub fn new(http: Arc<HttpHandler>) -> Self {
        Self { http }
    }
}

#[async_trait]
impl TaskHandler for CallbackHandler {
    async fn execute(&self, context: &TaskContext) -> Verdict {
        match &context.config.spec.target {
            Target::Http(_) => {
                let may_send = || context.fence.may_send();
                let call = Call {
                    task: &context.task,
                    config: &context.config,
                    completion_token: context.completion_token.as_deref(),
                    now: context.now,
                    may_send: &may_send,
                };
                self.http.call(&call).await
            }
        }
    }
}
