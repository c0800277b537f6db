//! The memory that the bodies of requests take together.

use std::sync::Arc;

use bytes::Bytes;
use metrics::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tsp_api::ErrorCode;

use crate::error::{ApiError, ApiResult};

/// All bodies of at most [`SMALL_BYTES_MAX`] together, so that batches never keep single tasks out.
const SMALL_ROOM: usize = 32 * 1024 * 1024;
/// All larger ones together: six batches of the largest size, or hundreds of usual ones.
const LARGE_ROOM: usize = 96 * 1024 * 1024;
const SMALL_BYTES_MAX: usize = 128 * 1024;
/// Whoever finds no room should ask again after so many seconds.
const AGAIN_AFTER_S: u64 = 1;

/// What is left for bodies. It is taken as bytes arrive, not as they are announced.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    refused: Arc<RefusedCounter>,
}

struct RefusedCounter(Counter);

impl std::fmt::Debug for RefusedCounter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refused")
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::of(SMALL_ROOM, LARGE_ROOM)
    }
}

impl Room {
    pub(crate) fn of(small: usize, large: usize) -> Self {
        metrics::describe_counter!(
            "tsp_http_bodies_refused_total",
            "bodies that were refused because others took all the memory for bodies"
        );
        Self {
            small: Arc::new(Semaphore::new(small)),
            large: Arc::new(Semaphore::new(large)),
            refused: Arc::new(RefusedCounter(metrics::counter!("tsp_http_bodies_refused_total"))),
        }
    }

    /// A permit without a byte.
    pub(crate) fn enter(&self) -> RoomPermit {
        RoomPermit { room: self.clone(), held: None, bytes: 0 }
    }

    fn take(&self, large: bool, bytes: usize) -> ApiResult<OwnedSemaphorePermit> {
        let from = if large { &self.large } else { &self.small };
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        from.clone().try_acquire_many_owned(count).map_err(|_| {
            self.refused.0.increment(1);
            let detail = "the memory for bodies is used up by other requests; send it again in a moment";
            ApiError::new(ErrorCode::Unavailable, detail).with_retry_after(AGAIN_AFTER_S).quiet()
        })
    }
}

/// The room that one body takes.
#[derive(Debug)]
pub(crate) struct RoomPermit {
    room: Room,
    held: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl RoomPermit {
    /// Makes it `bytes` large, which is not less than before. 503 when there is no room.
    pub(crate) fn grow(&mut self, bytes: usize) -> ApiResult<()> {
        let large = bytes > SMALL_BYTES_MAX;
        match &mut self.held {
            Some(held) if large == (self.bytes > SMALL_BYTES_MAX) => {
                held.merge(self.room.take(large, bytes - self.bytes)?);
            }
            held => *held = Some(self.room.take(large, bytes)?),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// The permit is kept for as long as any part of the body is.
    pub(crate) fn fill(self, body: Bytes) -> Bytes {
        Bytes::from_owner(FilledBody { body, _permit: self })
    }
}

struct FilledBody {
    body: Bytes,
    _permit: RoomPermit,
}

impl AsRef<[u8]> for FilledBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_what_there_is_and_give_it_back() {
        let room = Room::of(100, SMALL_BYTES_MAX * 2);
        let (mut one, mut other) = (room.enter(), room.enter());
        one.grow(60).unwrap();
        assert_eq!(other.grow(50).unwrap_err().code(), ErrorCode::Unavailable);
        other.grow(40).unwrap();
        assert!(one.grow(61).is_err());
        // A large one leaves the small ones' room to them.
        one.grow(SMALL_BYTES_MAX + 1).unwrap();
        other.grow(100).unwrap();
        let body = other.fill(Bytes::from_static(b"abc"));
        let part = body.slice(1..2);
        drop(body);
        assert!(room.enter().grow(1).is_err(), "a part of it is still kept");
        drop(part);
        room.enter().grow(100).unwrap();
    }
}
