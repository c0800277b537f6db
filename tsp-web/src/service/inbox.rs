//! The receiver of a development server: it keeps the last callbacks.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use http::request::Parts;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tsp_api::Time;
use tsp_core::Timestamp;

/// The largest body that is taken.
pub(super) const CALLBACK_BYTES_MAX: usize = 1024 * 1024;
/// So many callbacks are kept,
const CALLBACKS_MAX: usize = 100;
/// and of these the newest whose heads and bodies have at most so many bytes together.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// The last callbacks, newest first.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<StoredCallbacks>);

#[derive(Debug, Default)]
struct StoredCallbacks {
    callbacks: VecDeque<Callback>,
    bytes: usize,
}

/// One callback as it came.
#[derive(Debug, Clone)]
struct Callback {
    at: Time,
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Bytes,
}

/// One callback as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct CallbackView {
    at: Time,
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    /// As JSON if it is, digit by digit; else as text; null when empty.
    body: Option<Box<RawValue>>,
}

impl Inbox {
    pub(super) fn add(&self, parts: &Parts, body: &[u8], now: Timestamp) {
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let callback = Callback {
            at: now.into(),
            method: parts.method.to_string(),
            path: parts.uri.to_string(),
            headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            // A copy: what came with it is not to be kept.
            body: Bytes::copy_from_slice(body),
        };
        let mut kept = self.0.lock();
        kept.bytes += callback.bytes();
        kept.callbacks.push_front(callback);
        while kept.callbacks.len() > CALLBACKS_MAX || kept.bytes > BYTES_MAX {
            let Some(oldest) = kept.callbacks.pop_back() else { break };
            kept.bytes -= oldest.bytes();
        }
    }

    pub(super) fn shown(&self) -> Vec<CallbackView> {
        let callbacks = self.0.lock().callbacks.clone();
        callbacks.into_iter().map(CallbackView::from).collect()
    }
}

impl Callback {
    fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.path.len() + headers + self.body.len()
    }
}

impl From<Callback> for CallbackView {
    fn from(callback: Callback) -> Self {
        let Callback { at, method, path, headers, body } = callback;
        let body = match serde_json::from_slice::<Box<RawValue>>(&body) {
            Ok(json) => Some(json),
            Err(_) if body.is_empty() => None,
            Err(_) => to_raw_value(&String::from_utf8_lossy(&body)).ok(),
        };
        Self { at, method, path, headers, body }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn add(inbox: &Inbox, path: String, body: &[u8]) {
        let (parts, ()) = Request::post(path).body(()).unwrap().into_parts();
        inbox.add(&parts, body, Timestamp::ZERO);
    }

    #[test]
    fn it_is_bounded_in_number_and_bytes() {
        let inbox = Inbox::default();
        for number in 0..=CALLBACKS_MAX {
            add(&inbox, format!("/{number}"), b"");
        }
        let shown = inbox.shown();
        assert_eq!((shown.len(), &*shown[0].path), (CALLBACKS_MAX, "/100"));
        let large = vec![b'x'; CALLBACK_BYTES_MAX];
        for number in 0..10 {
            add(&inbox, format!("/large/{number}"), &large);
        }
        let shown = inbox.shown();
        assert_eq!((shown.len(), &*shown[0].path), (3, "/large/9"));
        assert!(inbox.0.lock().bytes <= BYTES_MAX);
        add(&inbox, "/small".to_owned(), b"");
        assert_eq!(inbox.shown().len(), 4);
    }

    #[test]
    fn bodies_are_shown_as_they_came() {
        let inbox = Inbox::default();
        for (body, shown) in [
            ("{\"n\": 100000000000000000000001}", Some("{\"n\": 100000000000000000000001}")),
            ("1e400", Some("1e400")),
            ("no json", Some("\"no json\"")),
            ("", None),
        ] {
            add(&inbox, "/".to_owned(), body.as_bytes());
            assert_eq!(inbox.shown()[0].body.as_deref().map(RawValue::get), shown);
        }
    }
}
