//! What is wrong with a schedule, in words for the person who wrote it.

/// One bad field of a schedule. `field` is its name below `schedule` in API.md section 2; the message is a
/// lower-case sentence that names the offending text and shows a right one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct ScheduleError {
    pub field: &'static str,
    pub message: String,
}

impl ScheduleError {
    pub(super) fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }
}
