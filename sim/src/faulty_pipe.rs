//! A pipe that loses and doubles messages.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::Name;
use tsp_queue::memory::MemoryQueue;
use tsp_queue::{Message, PublishError, Publisher};

use crate::rng::SeededRng;

/// Says "published" and sometimes means nothing or twice.
#[derive(Debug)]
pub(crate) struct FaultyPipe {
    pub(crate) queue: Arc<MemoryQueue>,
    pub(crate) rng: Arc<SeededRng>,
    pub(crate) lose_per_mille: u64,
    pub(crate) double_per_mille: u64,
}

#[async_trait]
impl Publisher for FaultyPipe {
    async fn publish(
        &self,
        queue: &Name,
        messages: Vec<Message>,
    ) -> Vec<Result<(), (Message, PublishError)>> {
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            if self.rng.hits(self.lose_per_mille) {
                results.push(Ok(()));
                continue;
            }
            if self.rng.hits(self.double_per_mille) {
                // The double comes without the row, as from a queue outside the process.
                let double = Message { row: None, ..message.clone() };
                self.queue.publish(queue, vec![double]).await;
            }
            results.extend(self.queue.publish(queue, vec![message]).await);
        }
        results
    }

    fn room(&self, queue: &Name) -> usize {
        self.queue.room(queue)
    }
}
