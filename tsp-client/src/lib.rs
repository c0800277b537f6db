//! A client for callers and receivers of TSP.
//!
//! ```no_run
//! use serde_json::json;
//! use tsp_client::{Client, SubmitTask};
//!
//! # async fn call() -> Result<(), Box<dyn std::error::Error>> {
//! let tsp = Client::builder("http://127.0.0.1:8080").key("…").build()?;
//! let task = SubmitTask::new("close-order").key("order-42").delay("30m").payload(&json!({"order": 42}))?;
//! let answer = tsp.submit_once("trade", &task, "order-42-close").await?;
//! println!("{} {}", answer.result, answer.task.id);
//!
//! tsp.by_key("trade", "close-order", "order-42").cancel().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A submit is tried again by itself after 429, 503 and broken connections when it cannot happen twice:
//! with an idempotency key ([`Client::submit_once`]), or with a business key and
//! [`DuplicateKey::Ignore`]. All else is the caller's to repeat.
//!
//! Receivers check that a callback is genuine with [`verify()`].

mod client;
mod configs;
mod error;
mod list;
mod request;
mod retry;
mod subject;
mod submit;
pub mod verify;

pub use client::{Client, ClientBuilder};
pub use error::{Error, Refusal, Result};
pub use list::{ListTasks, Pages};
pub use request::{Answer, Request};
pub use subject::Subject;
pub use tsp_api::config::{Backoff, Config, Retry};
pub use tsp_api::problem::Problem;
pub use tsp_api::task::change::{CancelAnswer, CancelOutcome, CompleteBody, CompletionResult, ProgressBody};
pub use tsp_api::task::submit::{
    BatchAnswer, BatchResult, DuplicateKey, SubmitAnswer, SubmitResult, SubmitTask,
};
pub use tsp_api::task::{Attempt, Task, TaskPage, TaskState};
pub use verify::verify;

/// The examples of the guide are tested with those of this crate.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide.md")]
struct Guide;
