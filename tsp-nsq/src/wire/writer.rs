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
        if ended == Some(StopReason::Broken) {
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

    async fn write_all(&mut self, taken: &mut VecDeque<Order>) -> StopReason {
        let mut fresh = Vec::with_capacity(BATCH_ORDERS);
        while self.orders.recv_many(&mut fresh, BATCH_ORDERS).await > 0 {
            taken.extend(fresh.drain(..));
            while !taken.is_empty() {
                let shut = gather(taken, &mut self.out, &self.waiters);
                let written = timeout(self.deadline, self.out.flush()).await;
                if !matches!(written, Ok(Ok(()))) {
                    return StopReason::Broken;
                }
                if shut {
                    let _ = timeout(self.deadline, self.out.shut()).await;
                    return StopReason::Shut;
                }
            }
        }
        StopReason::Shut
    }
}

#[derive(PartialEq, Eq)]
enum StopReason {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::task::JoinSet;

    use super::super::compress::Compressor;
    use super::super::outbox::Outbox;
    use super::*;
    use crate::Topic;
    use crate::codec::Command;

    fn writer(room: usize) -> (Writer, Outbox, DuplexStream) {
        let (ours, theirs) = duplex(room);
        let (outbox, orders) = Outbox::new();
        let writer = Writer {
            out: CommandWriter::new(ours, Compressor::Plain),
            orders,
            waiters: Waiters::default(),
            deadline: Duration::from_secs(1),
            over: CancellationToken::new(),
            broken: CancellationToken::new(),
        };
        (writer, outbox, theirs)
    }

    fn publish(bytes: usize) -> Command {
        Command::Pub(Topic::new("t").expect("valid"), Bytes::from(vec![b'x'; bytes]))
    }

    #[tokio::test]
    async fn what_comes_after_the_end_is_known_not_to_be_sent() {
        let (writer, outbox, mut theirs) = writer(64);
        let waiters = writer.waiters.clone();
        let first = outbox.ask(Command::Cls, None);
        let second = outbox.ask(Command::Cls, None);
        tokio::pin!(first, second);
        assert!(futures::poll!(&mut first).is_pending());
        outbox.shut();
        assert!(futures::poll!(&mut second).is_pending());
        writer.run().await;

        assert_eq!(second.await, Err(NoAnswer::NotSent));
        assert_eq!(outbox.ask(Command::Cls, None).await, Err(NoAnswer::NotSent));
        waiters.lose("gone");
        assert_eq!(first.await, Err(NoAnswer::Lost("gone".to_owned())));
        let mut sent = String::new();
        theirs.read_to_string(&mut sent).await.expect("ended");
        assert_eq!(sent, "CLS\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (writer, outbox, _theirs) = writer(64);
        let (waiters, broken) = (writer.waiters.clone(), writer.broken.clone());
        let mut asking = JoinSet::new();
        asking.spawn(async move {
            tokio::join!(outbox.ask(publish(BATCH_BYTES), None), outbox.ask(publish(1), None),)
        });
        tokio::task::yield_now().await;
        writer.run().await;
        assert!(broken.is_cancelled());
        waiters.lose("gone");
        let answers = asking.join_next().await.expect("one").expect("no panic");
        // The first may have gone out in part, the second was behind it.
        assert_eq!(answers, (Err(NoAnswer::Lost("gone".to_owned())), Err(NoAnswer::NotSent)));
    }

    #[tokio::test]
    async fn what_has_gathered_goes_out_in_order() {
        let (writer, outbox, mut theirs) = writer(4096);
        for count in 0..3 {
            assert!(outbox.tell(Command::Rdy(count)));
        }
        outbox.shut();
        writer.run().await;
        let mut sent = String::new();
        theirs.read_to_string(&mut sent).await.expect("ended");
        assert_eq!(sent, "RDY 0\nRDY 1\nRDY 2\n");
        assert!(!outbox.tell(Command::Nop));
    }
}
