//! The receiver: a process of its own that answers at once and keeps, in memory, when each callback came.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::measure::wall_us;

/// How long the slow path holds a callback: longer than any sensible time-out.
const SLOW: Duration = Duration::from_mins(1);
const HUGE_BYTES: usize = 100 << 20;
/// Anything later is counted as this late.
const LATENESS_MAX_US: u64 = 3_600_000_000;

/// What came to one path, and how late.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Summary {
    pub(crate) received: usize,
    /// Different task ids.
    pub(crate) tasks: usize,
    pub(crate) early: usize,
    pub(crate) first_us: i64,
    pub(crate) last_us: i64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
}

struct Record {
    at_us: i64,
    task: u64,
    /// As it came; read only when it is asked for.
    execute_at: [u8; 24],
}

#[derive(Default)]
struct Store {
    records: Mutex<BTreeMap<String, Vec<Record>>>,
}

/// `everywhere`: on all addresses of loopback.
pub(crate) async fn serve(everywhere: bool) -> Result<()> {
    let address = if everywhere { "0.0.0.0:0" } else { "127.0.0.1:0" };
    let listener = TcpListener::bind(address).await.context("no free port on loopback")?;
    println!("ready: 127.0.0.1:{}", listener.local_addr()?.port());
    let store = Arc::new(Store::default());
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true)?;
        let store = Arc::clone(&store);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&store)));
            // A connection that the other side breaks off is the other side's business.
            // Without a timer, idle connections stay open for as long as their side wants.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: Request<Incoming>, store: Arc<Store>) -> io::Result<Response<Full<Bytes>>> {
    let at_us = wall_us();
    // A small body has come in with its head and hyper drops it; reading it would only cost.
    let path = request.uri().path();
    match path {
        "/bad/slow" => tokio::time::sleep(SLOW).await,
        "/bad/drop" => return Err(io::ErrorKind::ConnectionReset.into()),
        "/bad/huge" => return Ok(Response::new(Full::new(huge()))),
        _ => {}
    }
    let text = if let Some((_, control)) = path.split_once("/control/") {
        store.control(control)
    } else {
        store.record(path, at_us, request.headers());
        String::new()
    };
    Ok(Response::new(Full::new(Bytes::from(text))))
}

/// Made once: filling 100 MiB for each answer would make the receiver the slow part.
fn huge() -> Bytes {
    static HUGE: OnceLock<Bytes> = OnceLock::new();
    HUGE.get_or_init(|| Bytes::from(vec![b'x'; HUGE_BYTES])).clone()
}

impl Store {
    fn record(&self, path: &str, at_us: i64, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).map_or(&b""[..], |value| value.as_bytes());
        let task = std::str::from_utf8(text("tsp-task-id")).ok().and_then(|id| id.parse().ok()).unwrap_or(0);
        let mut execute_at = [0; 24];
        if let Some(fits) = text("tsp-execute-at").get(..24) {
            execute_at.copy_from_slice(fits);
        }
        let record = Record { at_us, task, execute_at };
        let mut records = self.records.lock();
        match records.get_mut(path) {
            Some(label) => label.push(record),
            None => drop(records.insert(path.to_owned(), vec![record])),
        }
    }

    /// `count/<label>`, `summary/<label>` or `reset`; a label is a callback's path without its first `/`.
    fn control(&self, control: &str) -> String {
        let records = self.records.lock();
        match control.split_once('/') {
            Some(("count", label)) => records.get(&format!("/{label}")).map_or(0, Vec::len).to_string(),
            Some(("summary", label)) => {
                let none = Vec::new();
                let summary = summarise(records.get(&format!("/{label}")).unwrap_or(&none));
                serde_json::to_string(&summary).unwrap_or_else(|e: serde_json::Error| e.to_string())
            }
            _ => {
                drop(records);
                self.records.lock().clear();
                String::new()
            }
        }
    }
}

fn summarise(records: &[Record]) -> Summary {
    let mut lateness = Histogram::<u64>::new_with_bounds(1, LATENESS_MAX_US, 3)
        .unwrap_or_else(|e| unreachable!("the bounds are in order: {e}"));
    let mut tasks = HashSet::new();
    let mut summary = Summary { received: records.len(), ..Summary::default() };
    for record in records {
        tasks.insert(record.task);
        let promised = std::str::from_utf8(&record.execute_at).ok();
        let promised = promised.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let promised = promised.map_or(record.at_us, jiff::Timestamp::as_microsecond);
        match u64::try_from(record.at_us - promised) {
            Ok(late) => lateness.saturating_record(late),
            Err(_) => summary.early += 1,
        }
    }
    summary.tasks = tasks.len();
    summary.first_us = records.iter().map(|record| record.at_us).min().unwrap_or(0);
    summary.last_us = records.iter().map(|record| record.at_us).max().unwrap_or(0);
    summary.p50_us = lateness.value_at_quantile(0.5);
    summary.p99_us = lateness.value_at_quantile(0.99);
    summary.p999_us = lateness.value_at_quantile(0.999);
    summary.max_us = lateness.max();
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at_us: i64, task: u64) -> Record {
        Record { at_us, task, execute_at: *b"1970-01-01T00:00:01.000Z" }
    }

    #[test]
    fn lateness_counts_from_the_promised_time() {
        let summary = summarise(&[record(1_000_500, 1), record(1_002_000, 2), record(999_999, 2)]);
        assert_eq!((summary.received, summary.tasks, summary.early), (3, 2, 1));
        assert_eq!((summary.first_us, summary.last_us), (999_999, 1_002_000));
        assert!((1_990..=2_010).contains(&summary.max_us), "{summary:?}");
    }
}
