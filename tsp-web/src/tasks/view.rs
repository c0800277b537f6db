//! Rows as callers see them.

use std::sync::Arc;

use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderName, StatusCode};
use serde::Serialize;
use tsp_api::task::json::TaskJson;
use tsp_core::config::TaskConfig;
use tsp_core::task::Task;

use crate::error::{ApiError, ApiResult};

/// Holds a small task's document without growing.
const TASK_BYTES: usize = 1024;

/// A task with its names.
pub(super) fn shown<'a>(task: &'a Task, config: &'a TaskConfig, payload: bool) -> TaskJson<'a> {
    TaskJson { task, app: config.app.as_str(), config: config.spec.name.as_str(), payload }
}

/// 200 with the task.
pub(super) fn answer(task: &Task, config: &Arc<TaskConfig>) -> ApiResult<Response> {
    json(StatusCode::OK, &shown(task, config, true))
}

/// Any document as the answer.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> ApiResult<Response> {
    Ok(response(status, to_vec(body)?, []))
}

pub(super) fn to_vec(body: &impl Serialize) -> ApiResult<Vec<u8>> {
    let mut bytes = Vec::with_capacity(TASK_BYTES);
    serde_json::to_writer(&mut bytes, body).map_err(ApiError::internal)?;
    Ok(bytes)
}

/// JSON that is written already.
pub(super) fn response<const N: usize>(
    status: StatusCode,
    body: Vec<u8>,
    headers: [(HeaderName, HeaderValue); N],
) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().extend(headers);
    response
}
