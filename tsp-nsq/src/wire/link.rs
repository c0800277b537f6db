//! A connection at work: one task reads, one writes.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handshake::ReadyConnection;
use super::outbox::{NoAnswer, Order, Outbox, Waiters};
use super::stream::FrameReader;
use super::writer::Writer;
use crate::codec::{CodecError, Command, ErrorReply, Frame, HEARTBEAT, MessageFrame};
use crate::config::ClientConfig;

/// How long a connection that cannot be written to is still read: the last frame may say why.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why a connection ended, or was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cause {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("handshake: {0}")]
    Handshake(String),
    #[error("nsqd closed the connection")]
    Eof,
    #[error("the connection broke: {0}")]
    Io(String),
    #[error("nsqd was silent for too long")]
    Silent,
    #[error("nsqd does not speak the protocol: {0}")]
    Protocol(String),
    #[error("nsqd ended the connection: {0}")]
    Refused(ErrorReply),
    #[error("closed")]
    Closed,
}

impl Cause {
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Handshake(_) => "handshake",
            Self::Eof => "eof",
            Self::Io(_) => "io",
            Self::Silent => "silent",
            Self::Protocol(_) => "protocol",
            Self::Refused(_) => "error_frame",
            Self::Closed => "closed",
        }
    }
}

impl From<CodecError> for Cause {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Decode(error) => Self::Protocol(error.to_string()),
            CodecError::Io(error) => Self::Io(error.to_string()),
        }
    }
}

/// What the owner of a connection gets to see, called by the task that reads. It must not block.
pub(crate) trait Events {
    /// `read_at` is when it came in.
    fn message(&mut self, message: MessageFrame, read_at: Instant);
    /// One of the three errors that keep the connection.
    fn acknowledge_error(&mut self, error: &ErrorReply);
    /// All that came with one read has been seen.
    fn batch_end(&mut self);
}

/// What came of a connection.
pub(crate) struct Run {
    pub(crate) cause: Cause,
    /// nsqd answered something after the handshake.
    pub(crate) answered: bool,
    pub(crate) lasted: Duration,
}

impl Run {
    /// What never came to a run.
    pub(crate) fn failed(cause: Cause) -> Self {
        Self { cause, answered: false, lasted: Duration::ZERO }
    }
}

/// Drives the connection until it ends. Whoever waits for an answer then has one, and `outbox` is closed.
pub(crate) async fn run(
    connected: ReadyConnection,
    (outbox, orders): (&Outbox, UnboundedReceiver<Order>),
    config: &ClientConfig,
    tasks: &TaskTracker,
    stop: &CancellationToken,
    events: &mut (impl Events + Send),
) -> Run {
    let waiters = Waiters::default();
    let (over, broken) = (CancellationToken::new(), CancellationToken::new());
    let writer = Writer {
        out: connected.writer,
        orders,
        waiters: waiters.clone(),
        deadline: config.heartbeat_interval,
        over: over.clone(),
        broken: broken.clone(),
    };
    let writer = tasks.spawn(writer.run());
    let began = Instant::now();
    let mut reader = Reader { outbox, waiters: &waiters, events, answered: false };
    let cause = tokio::select! {
        biased;
        () = stop.cancelled() => Cause::Closed,
        cause = reader.run(connected.reader, config.read_deadline(), &broken) => cause,
    };
    let answered = reader.answered;
    outbox.close();
    over.cancel();
    // A writer that panicked has dropped its orders, which tells their waiters as much.
    let _ = writer.await;
    waiters.lose(&cause.to_string());
    Run { cause, answered, lasted: began.elapsed() }
}

struct Reader<'a, E> {
    outbox: &'a Outbox,
    waiters: &'a Waiters,
    events: &'a mut E,
    answered: bool,
}

impl<E: Events> Reader<'_, E> {
    async fn run(&mut self, mut frames: FrameReader, limit: Duration, broken: &CancellationToken) -> Cause {
        let mut last_read = Instant::now();
        let mut until = last_read + limit;
        let silence = sleep_until(until);
        tokio::pin!(silence);
        // What came in together with the end of the handshake.
        if let Err(cause) = self.handle(&mut frames, last_read) {
            return cause;
        }
        let mut writable = true;
        loop {
            tokio::select! {
                biased;
                filled = frames.fill() => {
                    match filled {
                        Ok(true) => last_read = Instant::now(),
                        Ok(false) => return Cause::Eof,
                        Err(error) => return Cause::Io(error.to_string()),
                    }
                    if let Err(cause) = self.handle(&mut frames, last_read) {
                        return cause;
                    }
                }
                () = broken.cancelled(), if writable => {
                    writable = false;
                    until = Instant::now() + LAST_WORDS;
                    silence.as_mut().reset(until);
                }
                // The timer is moved when it fires, not with each read.
                () = &mut silence => {
                    if !writable {
                        return Cause::Io("it cannot be written to".to_owned());
                    }
                    if last_read + limit <= until {
                        return Cause::Silent;
                    }
                    until = last_read + limit;
                    silence.as_mut().reset(until);
                }
            }
        }
    }

    /// All frames that are complete.
    fn handle(&mut self, frames: &mut FrameReader, read_at: Instant) -> Result<(), Cause> {
        let mut outcome = Ok(());
        while outcome.is_ok() {
            match frames.next() {
                Ok(Some(frame)) => outcome = self.frame(frame, read_at),
                Ok(None) => break,
                Err(error) => outcome = Err(error.into()),
            }
        }
        self.events.batch_end();
        outcome
    }

    fn frame(&mut self, frame: Frame, read_at: Instant) -> Result<(), Cause> {
        match frame {
            Frame::Message(message) => self.events.message(message, read_at),
            Frame::Response(data) if data == HEARTBEAT => {
                self.outbox.tell(Command::Nop);
            }
            Frame::Response(data) => {
                if !self.waiters.answer(Ok(data)) {
                    return Err(Cause::Protocol("an answer to no question".to_owned()));
                }
                self.answered = true;
            }
            Frame::Error(error) if error.is_fatal() => {
                // First of all, or the caller who is told could send its next command into this connection.
                self.outbox.close();
                self.answered |= self.waiters.answer(Err(NoAnswer::Refused(error.clone())));
                return Err(Cause::Refused(error));
            }
            Frame::Error(error) => self.events.acknowledge_error(&error),
        }
        Ok(())
    }
}
