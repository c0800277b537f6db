//! Which nsqds there are: a fixed list, or what the lookups say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Jitter, Nsqds};
use crate::http::{HttpError, LookupdHttp, Node};
use crate::metric_names;
use crate::names::Topic;

/// Each period is longer by up to this share, so that clients do not ask together.
const JITTER_SHARE: f64 = 0.3;
/// Pokes do not make a lookup be asked more often than this. It is asked as often as long as no nsqd is known, or the
/// last one came less than [`COMPLETE_AFTER`] ago.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// A lookup that was started again knows an nsqd only when that has found that its connection broke and made a new
/// one: with its next ping and the one after that, every 15 seconds. They come one by one.
const COMPLETE_AFTER: Duration = Duration::from_secs(30);

/// An nsqd that no lookup lists is gone only after this, for the same reason.
const FORGET_AFTER: Duration = Duration::from_mins(1);

/// `host:port` of each; `None` before the first answer.
pub type Addresses = watch::Receiver<Option<BTreeSet<String>>>;

/// The nsqds that a process has found. Who searches with it begins with what the others have found, since a lookup
/// that was started again names none for up to half a minute. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct KnownNsqds {
    tcp: Arc<Mutex<BTreeSet<String>>>,
    http: Arc<Mutex<BTreeSet<String>>>,
}

pub(crate) struct Source {
    pub(crate) nsqds: Nsqds,
    /// Only nsqds that have it; all there are without.
    pub(crate) topic: Option<Topic>,
    pub(crate) every: Duration,
    pub(crate) jitter: Jitter,
    pub(crate) known: KnownNsqds,
}

/// Follows the HTTP addresses of all nsqds that `lookups` know, asked every `every` and up to 30 % more, until
/// `stop`.
pub fn http_addresses(
    lookups: &[String],
    every: Duration,
    jitter: Jitter,
    known: &KnownNsqds,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Addresses {
    let (sender, addresses) = watch::channel(None);
    let poller = Poller {
        lookups: lookups.iter().map(|address| LookupdHttp::new(address)).collect(),
        topic: None,
        address: Node::http_address,
        every,
        jitter,
        shared: Some(known.http.clone()),
        poke: Arc::default(),
        sender,
    };
    tasks.spawn(async move {
        let _ = stop.run_until_cancelled(poller.run()).await;
    });
    addresses
}

/// The addresses from now on, and how to have the lookups asked at once.
pub(crate) fn start(
    source: Source,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> (Addresses, Arc<Notify>) {
    let poke = Arc::new(Notify::new());
    let lookups = match source.nsqds {
        Nsqds::Fixed(addresses) => {
            let (_, fixed) = watch::channel(Some(addresses.into_iter().collect()));
            return (fixed, poke);
        }
        Nsqds::Lookup(lookups) => lookups,
    };
    let (sender, addresses) = watch::channel(None);
    let poller = Poller {
        lookups: lookups.iter().map(|address| LookupdHttp::new(address)).collect(),
        // Not all nsqds have the topic.
        shared: source.topic.is_none().then_some(source.known.tcp),
        topic: source.topic,
        address: Node::address,
        every: source.every,
        jitter: source.jitter,
        poke: poke.clone(),
        sender,
    };
    tasks.spawn(async move {
        let _ = stop.run_until_cancelled(poller.run()).await;
    });
    (addresses, poke)
}

struct Poller {
    lookups: Vec<LookupdHttp>,
    topic: Option<Topic>,
    address: fn(&Node) -> String,
    every: Duration,
    jitter: Jitter,
    shared: Option<Arc<Mutex<BTreeSet<String>>>>,
    poke: Arc<Notify>,
    sender: watch::Sender<Option<BTreeSet<String>>>,
}

impl Poller {
    async fn run(self) {
        let mut known = NsqdAges::default();
        if let Some(shared) = &self.shared {
            known.begin_with(&shared.lock());
        }
        if !known.is_empty() {
            self.tell(&known);
        }
        loop {
            let answers = join_all(self.lookups.iter().map(|lookup| self.ask(lookup))).await;
            if known.learn(answers, Instant::now()) {
                self.tell(&known);
            }
            sleep(AT_MOST_EVERY.min(self.every)).await;
            let is_complete = known.is_complete(Instant::now());
            let period = if is_complete { self.every } else { AT_MOST_EVERY.min(self.every) };
            let rest = period.mul_f64(1.0 + JITTER_SHARE * (self.jitter)()).saturating_sub(AT_MOST_EVERY);
            tokio::select! {
                () = sleep(rest) => {}
                () = self.poke.notified() => {}
            }
        }
    }

    fn tell(&self, known: &NsqdAges) {
        let addresses = known.addresses();
        if let Some(shared) = &self.shared {
            shared.lock().clone_from(&addresses);
        }
        self.sender.send_if_modified(|told| {
            let is_new = told.as_ref() != Some(&addresses);
            *told = Some(addresses);
            is_new
        });
    }

    async fn ask(&self, lookup: &LookupdHttp) -> Option<BTreeSet<String>> {
        match self.question(lookup).await {
            Ok(addresses) => Some(addresses),
            Err(error) => {
                metrics::counter!(metric_names::LOOKUP_FAILURES).increment(1);
                tracing::warn!(nsqlookupd = lookup.address(), %error, "lookup failed");
                None
            }
        }
    }

    async fn question(&self, lookup: &LookupdHttp) -> Result<BTreeSet<String>, HttpError> {
        let nodes = match &self.topic {
            Some(topic) => lookup.lookup(topic).await?.producers,
            None => lookup.nodes().await?,
        };
        Ok(nodes.iter().map(self.address).collect())
    }
}

#[derive(Debug, Default)]
struct NsqdAges {
    /// Each nsqd, and since when all lookups have answered without it.
    nsqds: BTreeMap<String, Option<Instant>>,
    /// When a lookup last named one that was not known.
    grown_at: Option<Instant>,
}

impl NsqdAges {
    fn begin_with(&mut self, addresses: &BTreeSet<String>) {
        self.nsqds = addresses.iter().map(|address| (address.clone(), None)).collect();
    }

    fn addresses(&self) -> BTreeSet<String> {
        self.nsqds.keys().cloned().collect()
    }

    fn is_empty(&self) -> bool {
        self.nsqds.is_empty()
    }

    /// Whether the lookups are likely to have named all there are.
    fn is_complete(&self, now: Instant) -> bool {
        !self.is_empty() && self.grown_at.is_none_or(|at| now.duration_since(at) >= COMPLETE_AFTER)
    }

    /// What a round of questions has brought. `false` if no lookup has answered. Only if every one has, may an
    /// address be missing that was there.
    fn learn(&mut self, answers: Vec<Option<BTreeSet<String>>>, now: Instant) -> bool {
        let complete = answers.iter().all(Option::is_some);
        if answers.iter().all(Option::is_none) {
            return false;
        }
        let listed: BTreeSet<String> = answers.into_iter().flatten().flatten().collect();
        self.nsqds.retain(|address, missing| {
            if listed.contains(address) || !complete {
                *missing = None;
                return true;
            }
            now.duration_since(*missing.get_or_insert(now)) < FORGET_AFTER
        });
        for address in listed {
            self.nsqds.entry(address).or_insert_with(|| {
                self.grown_at = Some(now);
                None
            });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn answers_are_united() {
        let (mut known, now) = (NsqdAges::default(), Instant::now());
        assert!(known.learn(vec![Some(set(&[]))], now));
        assert_eq!(known.addresses(), set(&[]));
        assert!(known.learn(vec![Some(set(&["a"])), Some(set(&["b"]))], now));
        assert_eq!(known.addresses(), set(&["a", "b"]));
    }

    #[test]
    fn a_lookup_that_fails_removes_nothing() {
        let (mut known, now) = (NsqdAges::default(), Instant::now());
        known.learn(vec![Some(set(&["a"])), Some(set(&["b"]))], now);
        known.learn(vec![Some(set(&["c"])), None], now + FORGET_AFTER);
        assert!(!known.learn(vec![None, None], now + 2 * FORGET_AFTER));
        known.learn(vec![Some(set(&["c"])), None], now + 3 * FORGET_AFTER);
        assert_eq!(known.addresses(), set(&["a", "b", "c"]));
    }

    #[test]
    fn a_lookup_that_was_started_again_removes_nothing() {
        let (mut known, now) = (NsqdAges::default(), Instant::now());
        known.learn(vec![Some(set(&["a", "b"]))], now);
        known.learn(vec![Some(set(&[]))], now + SECOND);
        known.learn(vec![Some(set(&["b"]))], now + FORGET_AFTER);
        assert_eq!(known.addresses(), set(&["a", "b"]));
        known.learn(vec![Some(set(&["a", "b"]))], now + FORGET_AFTER + SECOND);
        known.learn(vec![Some(set(&["b"]))], now + FORGET_AFTER + 2 * SECOND);
        assert_eq!(known.addresses(), set(&["a", "b"]), "its time counts again");
    }

    /// A lookup that was started again learns of the nsqds one by one.
    #[test]
    fn nsqds_are_asked_for_often_until_the_last_was_named_half_a_minute_ago() {
        let (mut known, now) = (NsqdAges::default(), Instant::now());
        assert!(!known.is_complete(now), "none is known");
        known.learn(vec![Some(set(&["a"]))], now);
        known.learn(vec![Some(set(&["a"]))], now + 14 * SECOND);
        assert!(!known.is_complete(now + 29 * SECOND));
        known.learn(vec![Some(set(&["a", "b"]))], now + 29 * SECOND);
        assert!(!known.is_complete(now + 58 * SECOND), "another has come");
        assert!(known.is_complete(now + 59 * SECOND));
    }

    #[test]
    fn what_others_have_found_is_known_until_the_lookups_have_not_named_it_for_a_minute() {
        let (mut known, now) = (NsqdAges::default(), Instant::now());
        known.begin_with(&set(&["a", "b"]));
        assert!(known.is_complete(now));
        assert!(!known.learn(vec![None], now), "no lookup answers");
        known.learn(vec![Some(set(&[]))], now);
        known.learn(vec![Some(set(&["b"]))], now + FORGET_AFTER - SECOND);
        assert_eq!(known.addresses(), set(&["a", "b"]));
        known.learn(vec![Some(set(&["b"]))], now + FORGET_AFTER);
        assert_eq!(known.addresses(), set(&["b"]));
    }

    #[test]
    fn an_address_goes_when_all_have_answered_without_it_for_a_minute() {
        let (mut known, now) = (NsqdAges::default(), Instant::now());
        known.learn(vec![Some(set(&["a", "b"])), Some(set(&[]))], now);
        known.learn(vec![Some(set(&["b"])), Some(set(&[]))], now + SECOND);
        known.learn(vec![Some(set(&["b"])), Some(set(&[]))], now + FORGET_AFTER);
        assert_eq!(known.addresses(), set(&["a", "b"]));
        known.learn(vec![Some(set(&["b"])), Some(set(&[]))], now + FORGET_AFTER + SECOND);
        assert_eq!(known.addresses(), set(&["b"]));
    }
}
