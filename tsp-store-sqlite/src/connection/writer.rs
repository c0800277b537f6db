//! The writer: one thread that owns the write connection and commits in groups (`docs/reference/speed.md`,
//! section 3). It takes all commands that wait, runs them in one transaction, and answers each after the
//! commit, so that a hundred submits share one sync of the disk.
//!
//! A command that fails is rolled back alone. A command that panics too; the thread lives on. A commit
//! that fails answers every command of the group.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tsp_store::error::{Cause, Result, StoreError};

use crate::connection::command::Command;
use crate::connection::command_queue::{AbandonGuard, CommandQueue};
use crate::connection::fault::{commit_error, store_error, sync_failed};
use crate::connection::fold::{fold_above, fold_all};
use crate::connection::session::Session;
use crate::connection::tx::{StoreContext, Tx};

/// The most commands in one transaction.
const GROUP_COMMANDS_MAX: usize = 1_024;
/// The most rows in one transaction, by the commands' own estimate; a single command may be larger.
const GROUP_ROWS_MAX: usize = 4_096;

/// A command with its answer still to come.
trait Job: Send {
    fn command(&self) -> Command;
    fn rows(&self) -> usize;
    /// Does the work; whether it may be committed.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// With the group's failure, if it failed.
    fn answer(self: Box<Self>, failure: Option<&StoreError>);
}

struct Call<T, F> {
    command: Command,
    rows: usize,
    work: Option<F>,
    result: Option<Result<T>>,
    caller: oneshot::Sender<Result<T>>,
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: FnOnce(&mut Tx<'_>) -> Result<T> + Send,
{
    fn command(&self) -> Command {
        self.command
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        let Some(work) = self.work.take() else { return false };
        let result = catch_unwind(AssertUnwindSafe(|| work(tx))).unwrap_or_else(|panic| {
            let why = panic_text(&*panic);
            tracing::error!(command = self.command.as_str(), why, "a store command panicked");
            Err(StoreError::Internal(format!("`{}` panicked: {why}", self.command.as_str())))
        });
        let good = result.is_ok();
        self.result = Some(result);
        good
    }

    fn answer(self: Box<Self>, failure: Option<&StoreError>) {
        let answer = match (self.result, failure) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(failure)) => Err(failure.clone()),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(StoreError::Internal("a command was not run".to_owned())),
        };
        // A caller that stopped waiting wants no answer.
        let _ = self.caller.send(answer);
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The handle of the writer thread. Dropping it lets the thread finish what waits, and waits for it.
pub(crate) struct Writer {
    queue: Arc<CommandQueue<Box<dyn Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
    failed: watch::Receiver<bool>,
}

impl Writer {
    pub(crate) fn start(conn: Connection, shared: Arc<StoreContext>, checkpoint_pages: i32) -> Result<Self> {
        let queue = Arc::new(CommandQueue::new());
        let (end, ended) = oneshot::channel();
        let (fail, failed) = watch::channel(false);
        let jobs = queue.clone();
        let thread = std::thread::Builder::new()
            .name("tsp-store-writer".to_owned())
            .spawn(move || {
                let guard = AbandonGuard(&*jobs);
                GroupCommit { tx: Tx::new(Session::new(&conn), &shared), checkpoint_pages }.serve(&jobs);
                drop(guard);
                if !sync_failed()
                    && let Err(error) = fold_all(&conn)
                {
                    tracing::warn!(%error, "the last checkpoint of the database failed");
                }
                if sync_failed() {
                    tracing::error!("a sync of the database file has failed: nothing more is written to it");
                    let _ = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
                    fail.send_replace(true);
                }
                drop(conn);
                let _ = end.send(());
            })
            .map_err(|error| StoreError::Unusable(format!("no thread for the store: {error}")))?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)), ended: Mutex::new(Some(ended)), failed })
    }

    /// Runs `work` in the next group and returns what it returned, once that is committed. `rows` is
    /// about how many rows it will touch.
    pub(crate) async fn call<T, F>(&self, command: Command, rows: usize, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let job = Call { command, rows, work: Some(work), result: None, caller };
        if !self.queue.push(Box::new(job)) {
            return Err(Cause::Closed.because("the store is closed"));
        }
        // The thread answers everything it takes; it is gone only if the process is going down.
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the store's writer has ended".to_owned())))
    }

    /// Lets the thread finish what waits, and waits for its end.
    pub(crate) async fn close(&self) {
        self.queue.close();
        let ended = self.ended.lock().take();
        if let Some(ended) = ended {
            let _ = ended.await;
        }
        self.join();
    }

    /// Returns when a sync has failed.
    pub(crate) async fn failed(&self) {
        if self.failed.clone().wait_for(|failed| *failed).await.is_err() {
            // The thread has ended well.
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        *self.failed.borrow()
    }

    fn join(&self) {
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        self.join();
    }
}

/// The thread's side.
struct GroupCommit<'c> {
    tx: Tx<'c>,
    checkpoint_pages: i32,
}

enum TransactionEnd {
    /// Done, or rolled back alone.
    Ended,
    /// The database gave up the whole transaction: a full disk, an IO error.
    TransactionLost,
}

impl GroupCommit<'_> {
    /// Until the queue is closed, or a sync has failed.
    fn serve(&mut self, queue: &CommandQueue<Box<dyn Job>>) {
        while let Some(jobs) = queue.take(GROUP_COMMANDS_MAX, GROUP_ROWS_MAX, |job| job.rows()) {
            let mut waiting = jobs.into_iter();
            while waiting.len() > 0 {
                self.transaction(&mut waiting);
                fold_above(self.tx.conn.raw(), self.checkpoint_pages);
                if sync_failed() {
                    return;
                }
            }
        }
    }

    /// Runs the commands that wait in one transaction; leaves some waiting if it was lost on the way.
    fn transaction(&mut self, waiting: &mut std::vec::IntoIter<Box<dyn Job>>) {
        if let Err(error) = self.execute("-- begin\nBEGIN IMMEDIATE") {
            let failure = store_error(error);
            tracing::warn!(%failure, commands = waiting.len(), "the store could not begin");
            for job in waiting {
                job.answer(Some(&failure));
            }
            return;
        }
        let alone = waiting.len() == 1;
        let mut ran = Vec::with_capacity(waiting.len());
        let mut lost = false;
        for mut job in waiting.by_ref() {
            lost = matches!(self.command(&mut *job, alone), TransactionEnd::TransactionLost);
            ran.push(job);
            if lost {
                break;
            }
        }
        let started = Instant::now();
        let failure = if lost {
            Some(Cause::Away.because("the database gave up the transaction; is the disk full?"))
        } else {
            self.commit().err()
        };
        if let Some(failure) = &failure {
            tracing::warn!(%failure, commands = ran.len(), "a transaction of the store was lost");
            self.roll_back();
            self.tx.forget();
            self.tx.shared.metrics.rolled_back();
        } else {
            self.tx.committed();
            self.tx.shared.metrics.committed(ran.len(), started.elapsed());
        }
        for job in ran {
            job.answer(failure.as_ref());
        }
    }

    /// One command within its own savepoint; one that is alone needs none.
    fn command(&mut self, job: &mut dyn Job, alone: bool) -> TransactionEnd {
        let mark = self.tx.mark();
        let started = Instant::now();
        if !alone && self.execute("-- savepoint\nSAVEPOINT command").is_err() {
            return TransactionEnd::TransactionLost;
        }
        let good = job.run(&mut self.tx);
        self.tx.shared.metrics.ran(job.command(), started.elapsed());
        if self.tx.conn.raw().is_autocommit() {
            return TransactionEnd::TransactionLost;
        }
        if !good {
            self.tx.back_to(mark);
        }
        let done = match (alone, good) {
            (true, true) => Ok(()),
            // Nothing else is in this transaction.
            (true, false) => {
                self.execute("-- rollback\nROLLBACK").and_then(|()| self.execute("-- begin\nBEGIN"))
            }
            (false, true) => self.execute("-- savepoint_release\nRELEASE command"),
            (false, false) => self
                .execute("-- savepoint_rollback\nROLLBACK TO command")
                .and_then(|()| self.execute("-- savepoint_release\nRELEASE command")),
        };
        if done.is_ok() { TransactionEnd::Ended } else { TransactionEnd::TransactionLost }
    }

    fn commit(&mut self) -> Result<()> {
        self.tx.write_sums()?;
        self.execute("-- commit\nCOMMIT").map_err(commit_error)
    }

    /// A lost transaction may not stay open: nothing could begin after it.
    fn roll_back(&self) {
        if !self.tx.conn.raw().is_autocommit()
            && let Err(error) = self.execute("-- rollback\nROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }

    fn execute(&self, sql: &'static str) -> rusqlite::Result<()> {
        self.tx.conn.raw().prepare_cached(sql)?.execute([]).map(|_| ())
    }
}
