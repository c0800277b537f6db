//! The virtual clock of `tsp dev`: moved from due time to due time, so that what is due in between really
//! happens, each thing at its own time.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tsp_core::task::Status;
use tsp_core::{Clock, ConfigId, Millis, Timestamp, VirtualClock};
use tsp_queue::Inbox;
use tsp_store::fetching::InFlight;
use tsp_store::id_source::RENEW_AHEAD;
use tsp_store::{Catalog, FetcherStore, IdSource, Result};
use tsp_store_sqlite::SqliteStore;
use tsp_web::DevHooks;
use tsp_web::ports::ClockAdvance;

use super::dependencies::ProcessDependencies;
use super::embedded::Embedded;

/// How often the rows are looked at while something runs. This and what follows is real time.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Rows in flight read in one call.
const ROWS_PER_PAGE: usize = 1_000;
const QUIET_LOOKS: u32 = 2;
/// When nothing was in flight in so many looks, what is still due is held back on purpose (a receiver asked the config
/// to wait). Counted and not timed: on a machine that stands still for a moment nobody looks either.
const HELD_LOOKS: u32 = 300;
/// A callback that runs longer is left behind; it ends later, by its own time-out.
const IDLE_WITHIN: Duration = Duration::from_secs(30);
/// Ids are made only below the slot's lease, which must therefore run ahead of the clock.
const IDS_AHEAD_AT_LEAST: Millis = Millis::from_ms(RENEW_AHEAD.ms() / 2);

pub(super) struct DevClock {
    store: Arc<SqliteStore>,
    clock: Arc<VirtualClock>,
    inbox: Arc<Inbox>,
    ids: IdSource,
    /// Callbacks sent by this process.
    sent: Arc<AtomicU64>,
    /// Two moves at once would each wait for what the other made due. Holds until when ids may be made.
    moving: Mutex<Timestamp>,
}

impl std::fmt::Debug for DevClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevClock").field("clock", &self.clock).finish_non_exhaustive()
    }
}

#[async_trait]
impl DevHooks for DevClock {
    async fn advance_clock(&self, by: Millis) -> ClockAdvance {
        let before = self.sent.load(Ordering::SeqCst);
        if let Err(error) = self.advance(by).await {
            tracing::error!(%error, "the clock could not be moved all the way");
        }
        let fired = self.sent.load(Ordering::SeqCst).saturating_sub(before);
        ClockAdvance { now: self.clock.now(), fired }
    }
}

impl DevClock {
    pub(super) fn new(deps: &ProcessDependencies, embedded: &Embedded, clock: Arc<VirtualClock>) -> Self {
        Self {
            store: embedded.store.clone(),
            clock,
            inbox: embedded.inbox.clone(),
            ids: deps.ids.clone().unwrap_or_else(IdSource::none),
            sent: deps.sent.clone(),
            moving: Mutex::default(),
        }
    }

    async fn advance(&self, by: Millis) -> Result<()> {
        let mut ids_until = self.moving.lock().await;
        let end = self.clock.now().plus(by);
        self.run_until_idle().await?;
        loop {
            let next = self.next_after(self.clock.now()).await?.filter(|next| *next < end);
            self.move_to(next.unwrap_or(end), &mut ids_until).await?;
            self.run_until_idle().await?;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    async fn move_to(&self, to: Timestamp, ids_until: &mut Timestamp) -> Result<()> {
        if to.plus(IDS_AHEAD_AT_LEAST) > *ids_until {
            self.ids.renew(&*self.store, to).await?;
            *ids_until = to.plus(RENEW_AHEAD);
        }
        self.clock.advance_to(to);
        self.inbox.wake();
        Ok(())
    }

    /// Waits until all that is due now has ended, or is seen to be held back.
    async fn run_until_idle(&self) -> Result<()> {
        let started = Instant::now();
        let (mut quiet_looks, mut held_looks) = (0, 0);
        while started.elapsed() < IDLE_WITHIN {
            let now = self.clock.now();
            // In the order in which a task goes through them, or one could slip by between two reads.
            let due = self.earliest(|at| at <= now).await?.is_some();
            if self.in_flight(now).await? {
                (quiet_looks, held_looks) = (0, 0);
            } else if due {
                (quiet_looks, held_looks) = (0, held_looks + 1);
            } else {
                quiet_looks += 1;
            }
            // A retry goes the other way, so one look is not enough.
            if quiet_looks == QUIET_LOOKS || held_looks == HELD_LOOKS {
                return Ok(());
            }
            if quiet_looks == 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Whether something runs, or is on its way to a worker. What was taken ahead of its time is not.
    async fn in_flight(&self, now: Timestamp) -> Result<bool> {
        let runs = |row: &InFlight| row.status == Status::Executing || row.due_at <= now;
        let mut after = None;
        loop {
            let page = self.store.in_flight(after, ROWS_PER_PAGE).await?;
            let found = page.rows.iter().any(runs);
            if found || page.next.is_none() {
                return Ok(found);
            }
            after = page.next;
        }
    }

    async fn next_after(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let mut next = self.earliest(|at| at > now).await?;
        let mut after = None;
        loop {
            let page = self.store.in_flight(after, ROWS_PER_PAGE).await?;
            let later = page.rows.iter().map(|row| row.due_at).filter(|due_at| *due_at > now);
            next = next.into_iter().chain(later).min();
            if page.next.is_none() {
                return Ok(next);
            }
            after = page.next;
        }
    }

    /// The earliest of what comes by itself, among the points in time that `wanted` picks. Configs that
    /// are paused or disabled wait for an operator, not for the clock.
    async fn earliest(&self, wanted: impl Fn(Timestamp) -> bool) -> Result<Option<Timestamp>> {
        let configs = self.store.config_cache().all_configs();
        let runnable: HashSet<ConfigId> =
            configs.iter().filter(|config| config.runnable()).map(|config| config.id).collect();
        let cursors = self.store.cursors().await?.into_iter();
        let earliest_due =
            self.store.earliest_due().await?.into_iter().map(|earliest| (earliest.config, earliest.due_at));
        let fires = cursors.filter_map(|cursor| Some((cursor.config, cursor.next_fire_at?)));
        let own = earliest_due.chain(fires).filter(|(config, _)| runnable.contains(config)).map(|(_, at)| at);
        Ok(own.chain(self.store.next_deadline().await?).filter(|at| wanted(*at)).min())
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use crate::wiring::testing::TestServer;

    async fn call(server: &TestServer, method: Method, path: &str, body: Value) -> Value {
        let answer = server.client().request_json(method, path, Some(&body)).await;
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn states(server: &TestServer) -> Vec<String> {
        let page =
            server.client().request_json(Method::GET, "/apps/demo/tasks?order=id", None).await.unwrap();
        let items = page["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|task| task["state"].as_str().unwrap_or_default().to_owned()).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_due_on_the_way_happens_and_what_is_held_does_not() {
        let server = TestServer::start().await;
        call(&server, Method::POST, "/apps", json!({ "name": "demo" })).await;
        let target = json!({ "type": "http", "url": format!("http://{}/dev/inbox", server.address) });
        for (name, kind, schedule) in [
            ("later", "delayed", Value::Null),
            ("held", "delayed", Value::Null),
            ("often", "cron", json!({ "type": "every", "interval": "10m" })),
        ] {
            let config = json!({ "name": name, "kind": kind, "target": target, "schedule": schedule });
            call(&server, Method::POST, "/apps/demo/configs", config).await;
        }
        call(&server, Method::POST, "/apps/demo/configs/held/pause", json!({})).await;
        for (config, delay) in [("later", "90m"), ("later", "25h"), ("held", "1m")] {
            call(&server, Method::POST, "/apps/demo/tasks", json!({ "config": config, "delay": delay }))
                .await;
        }
        assert_eq!(states(&server).await, ["scheduled", "scheduled", "scheduled"]);

        let moved = call(&server, Method::POST, "/dev/clock", json!({ "advance": "2h" })).await;
        assert_eq!(moved["fired"], 13, "twelve slots and one task: {moved}");
        let states = states(&server).await;
        assert_eq!(states[..3], ["ended", "scheduled", "scheduled"]);
        assert!(states[3..].iter().all(|state| state == "ended"), "{states:?}");
        server.stop().await;
    }
}
