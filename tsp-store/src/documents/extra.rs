//! The parts of a task that most tasks do not have.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tsp_core::task::{NextRun, Progress, TaskExtra};
use tsp_core::{AppId, Timestamp};

use super::retry::RetryDoc;
use super::{CodecResult, payload_text};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ExtraDoc {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<RetryDoc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    submitter: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<NextDoc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressDoc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    excerpt: Option<Box<str>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct NextDoc {
    execute_at: i64,
    /// The payload's own text, kept byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProgressDoc {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    percent: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    at: i64,
}

/// `None` for an extra that says nothing: the row stays small.
pub fn extra_to_json(extra: &TaskExtra) -> CodecResult<Option<String>> {
    if *extra == TaskExtra::default() {
        return Ok(None);
    }
    let next = match &extra.next {
        Some(next) => Some(NextDoc {
            execute_at: next.execute_at.ms(),
            payload: next.payload.as_deref().map(payload_text).transpose()?,
        }),
        None => None,
    };
    let doc = ExtraDoc {
        headers: extra.headers.clone(),
        retry: extra.retry.as_ref().map(RetryDoc::from),
        traceparent: extra.traceparent.clone(),
        submitter: extra.submitter.map(AppId::get),
        next,
        progress: extra.progress.as_ref().map(|progress| ProgressDoc {
            percent: progress.percent,
            message: progress.message.clone(),
            at: progress.at.ms(),
        }),
        excerpt: extra.excerpt.clone(),
    };
    serde_json::to_string(&doc).map(Some).map_err(|error| error.to_string())
}

pub fn extra_from_json(text: &str) -> CodecResult<TaskExtra> {
    let doc: ExtraDoc = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(TaskExtra {
        headers: doc.headers,
        retry: doc.retry.map(Into::into),
        traceparent: doc.traceparent,
        submitter: doc.submitter.map(AppId::new),
        next: doc.next.map(|next| NextRun {
            execute_at: Timestamp::from_ms(next.execute_at),
            payload: next.payload.map(Bytes::from),
        }),
        progress: doc.progress.map(|progress| Progress {
            percent: progress.percent,
            message: progress.message,
            at: Timestamp::from_ms(progress.at),
        }),
        excerpt: doc.excerpt,
    })
}
