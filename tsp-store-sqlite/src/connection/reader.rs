//! Readers: a few threads, each with a connection that cannot write. Every read runs in one read
//! transaction, so what it sees is of one moment.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tsp_store::error::{Cause, Result, StoreError};

use crate::connection::command::Command;
use crate::connection::command_queue::{AbandonGuard, CommandQueue};
use crate::connection::connect::read_connection;
use crate::connection::fault::store_error;
use crate::connection::session::Session;
use crate::connection::tx::StoreContext;
use crate::options::SqliteOptions;

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// Dropping it lets the threads finish what waits, and waits for them.
pub(crate) struct Readers {
    queue: Arc<CommandQueue<ReadJob>>,
    shared: Arc<StoreContext>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    pub(crate) fn start(path: &Path, options: &SqliteOptions, shared: Arc<StoreContext>) -> Result<Self> {
        let readers = Self { queue: Arc::new(CommandQueue::new()), shared, threads: Mutex::default() };
        for number in 0..options.readers.clamp(1, 64) {
            let conn = read_connection(path, options)?;
            let queue = readers.queue.clone();
            let thread = std::thread::Builder::new()
                .name(format!("tsp-store-reader-{number}"))
                .spawn(move || serve(&conn, &queue))
                .map_err(|error| StoreError::Unusable(format!("no thread for the store: {error}")))?;
            readers.threads.lock().push(thread);
        }
        Ok(readers)
    }

    pub(crate) async fn call<T, F>(&self, command: Command, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Session<'_>) -> Result<T> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let shared = self.shared.clone();
        let read = move |conn: &Connection| {
            let started = Instant::now();
            let result = catch_unwind(AssertUnwindSafe(|| snapshot(conn, work))).unwrap_or_else(|_| {
                tracing::error!(command = command.as_str(), "a read of the store panicked");
                Err(StoreError::Internal(format!("`{}` panicked", command.as_str())))
            });
            shared.metrics.ran(command, started.elapsed());
            let _ = caller.send(result);
        };
        if !self.queue.push(Box::new(read)) {
            return Err(Cause::Closed.because("the store is closed"));
        }
        answer.await.unwrap_or_else(|_| Err(Cause::Closed.because("the store's readers have ended")))
    }

    pub(crate) fn close(&self) {
        self.queue.close();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            let _ = thread.join();
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.close();
    }
}

fn serve(conn: &Connection, queue: &CommandQueue<ReadJob>) {
    let _guard = AbandonGuard(queue);
    while let Some(reads) = queue.take(1, 1, |_| 1) {
        for read in reads {
            read(conn);
        }
    }
}

fn snapshot<T>(conn: &Connection, work: impl FnOnce(Session<'_>) -> Result<T>) -> Result<T> {
    let transaction = conn.unchecked_transaction().map_err(store_error)?;
    let result = work(Session::new(&transaction));
    // Nothing was written, so how it ends does not matter.
    transaction.finish().map_err(store_error)?;
    result
}
