//! The task that writes: whatever has gathered goes out in one write, at once.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::outbox::{NoAnswer, Order, Waiters};
use super::stream::CommandWriter;

/// How many orders are taken at once.
const BATCH_ORDERS: usize = 512;
/// A batch is written when it has grown to this, even if more orders wait.
const BATCH_BYTES: usize = 512 * 1024;

pub(super) struct Writer {
    pub(super) out: CommandWriter,
    pub(super) orders: UnboundedReceiver<Order>,
    pub(super) waiters: Waiters,
    /// A peer that takes nothing for this long is gone.
    pub(super) deadline: Duration,
    /// The reader says that it is over.
    pub(super) over: CancellationToken,
    /// Told to the reader when writing fails.
    pub(super) broken: CancellationToken,
}

impl Writer {
    /// Until the connection is over, or all is written after [`Order::Shut`].
    pub(super) async fn run(mut self) {
        let over = self.over.clone();
        let mut taken = VecDeque::new();
        let ended = over.run_until_cancelled(self.write_all(&mut taken)).await;
        if ended == Some(Ended::Broken) {
            self.broken.cancel();
        }
        self.orders.close();
        let queued = std::iter::from_fn(|| self.orders.try_recv().ok());
        for order in taken.into_iter().chain(queued) {
            if let Order::Ask(_, waiter) = order {
                waiter.tell(Err(NoAnswer::NotSent));
            }
        }
    }

    async fn write_all(&mut self, taken: &mut VecDeque<Order>) -> Ended {
        let mut fresh = Vec::with_capacity(BATCH_ORDERS);
        while self.orders.recv_many(&mut fresh, BATCH_ORDERS).await > 0 {
            taken.extend(fresh.drain(..));
            while !taken.is_empty() {
                let shut = gather(taken, &mut self.out, &self.waiters);
                let written = timeout(self.deadline, self.out.flush()).await;
                if !matches!(written, Ok(Ok(()))) {
                    return Ended::Broken;
                }
                if shut {
                    let _ = timeout(self.deadline, self.out.shut()).await;
                    return Ended::Shut;
                }
            }
        }
        Ended::Shut
    }
}

#[derive(PartialEq, Eq)]
enum Ended {
    Shut,
    Broken,
}

/// Moves orders to the batch until it is large enough; true after [`Order::Shut`].
///
/// Who waits is known before the first byte goes out, since the answer may be back before the write returns.
fn gather(orders: &mut VecDeque<Order>, out: &mut CommandWriter, waiters: &Waiters) -> bool {
    let mut asked = Vec::new();
    let mut shut = false;
    while let Some(order) = orders.pop_front() {
        match order {
            Order::Tell(command) => command.encode(&mut out.batch),
            Order::Ask(command, waiter) => {
                command.encode(&mut out.batch);
                asked.push(waiter);
            }
            Order::Shut => shut = true,
        }
        if shut || out.batch.len() >= BATCH_BYTES {
            break;
        }
    }
    if !asked.is_empty() {
        waiters.extend(asked);
    }
    shut
}
