//! Answers kept under an `Idempotency-Key` (API.md section 1).

use std::fmt;

use bytes::Bytes;
use tsp_core::Timestamp;

/// The answer that a repeat of the request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    pub status: u16,
    pub body: Bytes,
    pub location: Option<String>,
}

/// Renders the answer before the commit; `None` for answers that are not kept (refusals).
pub type Render<T> = Box<dyn FnOnce(&T) -> Option<StoredAnswer> + Send>;

/// Asks the store to keep the answer of a call in the transaction that does its work.
pub struct IdempotencyRequest<T: ?Sized> {
    /// SHA-256 of credential, path and key.
    pub hash: [u8; 32],
    /// SHA-256 of the request's canonical JSON.
    pub body_hash: [u8; 32],
    pub expires_at: Timestamp,
    pub render: Render<T>,
}

impl<T: ?Sized> fmt::Debug for IdempotencyRequest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyRequest").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// What a call with an `Idempotency-Key` finds first.
#[derive(Debug, Clone, PartialEq)]
pub enum IdempotencyResult<T> {
    /// The key is new: this is the call's own answer.
    Fresh(T),
    /// The same request was answered before.
    Replayed(StoredAnswer),
    /// The key was used for another body.
    Mismatch,
}
