//! What can become of a publish, and of a word about a message.

use crate::codec::ErrorReply;

/// A publish that did not end well, by what its caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Not stored, and it would be refused again: `E_BAD_TOPIC`, `E_BAD_MESSAGE`, `E_UNAUTHORIZED` and the
    /// like. A body that is empty or too large is refused here, before it is sent.
    #[error("refused: `{code}` {text}")]
    Refused { code: String, text: String },
    /// It was sent, and no nsqd said that it is stored: it may be, or not.
    #[error("may or may not be stored: {why}")]
    Unknown { why: String },
    /// No nsqd could be reached. Nothing was sent.
    #[error("no nsqd can be reached: {why}")]
    Unavailable { why: String },
}

impl PublishError {
    pub(crate) fn answered(reply: ErrorReply) -> Self {
        if reply.is_permanent() {
            Self::Refused { code: reply.code, text: reply.text }
        } else {
            // `E_PUB_FAILED` and `E_MPUB_FAILED` come from a topic that is going away or a disk that
            // failed in the middle; a part may be stored.
            Self::Unknown { why: reply.to_string() }
        }
    }
}

/// The connection that brought the message is gone, or the message was requeued when the consumer closed.
/// nsqd delivers it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message is no longer this connection's")]
pub struct Stale;
