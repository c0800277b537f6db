//! Which nsqds there are: a fixed list, or what the lookups say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
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
/// Pokes do not make a lookup be asked more often than this.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// How soon the lookups are asked again as long as no nsqd is known.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// An nsqd that no lookup lists is gone only after this: a lookup that was started again knows none until each
/// nsqd finds that its connection broke, which it does when it next pings, every 15 seconds.
const FORGET_AFTER: Duration = Duration::from_mins(1);

/// `host:port` of each; `None` before the first answer.
pub type Addresses = watch::Receiver<Option<BTreeSet<String>>>;

pub(crate) struct Source {
    pub(crate) nsqds: Nsqds,
    /// Only nsqds that have it; all there are without.
    pub(crate) topic: Option<Topic>,
    pub(crate) every: Duration,
    pub(crate) jitter: Jitter,
}

/// Follows the HTTP addresses of all nsqds that `lookups` know, asked every `every` and up to 30 % more, until
/// `stop`.
pub fn http_addresses(
    lookups: &[String],
    every: Duration,
    jitter: Jitter,
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
    poke: Arc<Notify>,
    sender: watch::Sender<Option<BTreeSet<String>>>,
}

impl Poller {
    async fn run(self) {
        let mut known = Known::default();
        loop {
            let answers = join_all(self.lookups.iter().map(|lookup| self.ask(lookup))).await;
            if known.learn(answers, Instant::now()) {
                let addresses = known.addresses();
                self.sender.send_if_modified(|told| {
                    let news = told.as_ref() != Some(&addresses);
                    *told = Some(addresses);
                    news
                });
            }
            sleep(AT_MOST_EVERY.min(self.every)).await;
            let period = if self.knows_some() { self.every } else { FIRST_RETRY.min(self.every) };
            let rest = period.mul_f64(1.0 + JITTER_SHARE * (self.jitter)()).saturating_sub(AT_MOST_EVERY);
            tokio::select! {
                () = sleep(rest) => {}
                () = self.poke.notified() => {}
            }
        }
    }

    fn knows_some(&self) -> bool {
        self.sender.borrow().as_ref().is_some_and(|known| !known.is_empty())
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

/// Each nsqd, and since when all lookups have answered without it.
#[derive(Debug, Default)]
struct Known(BTreeMap<String, Option<Instant>>);

impl Known {
    fn addresses(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// What a round of questions has brought. `false` if no lookup has answered. Only if every one has, may an
    /// address be missing that was there.
    fn learn(&mut self, answers: Vec<Option<BTreeSet<String>>>, now: Instant) -> bool {
        let complete = answers.iter().all(Option::is_some);
        if answers.iter().all(Option::is_none) {
            return false;
        }
        let listed: BTreeSet<String> = answers.into_iter().flatten().flatten().collect();
        self.0.retain(|address, missing| {
            if listed.contains(address) || !complete {
                *missing = None;
                return true;
            }
            now.duration_since(*missing.get_or_insert(now)) < FORGET_AFTER
        });
        for address in listed {
            self.0.entry(address).or_default();
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
        let (mut known, now) = (Known::default(), Instant::now());
        assert!(known.learn(vec![Some(set(&[]))], now));
        assert_eq!(known.addresses(), set(&[]));
        assert!(known.learn(vec![Some(set(&["a"])), Some(set(&["b"]))], now));
        assert_eq!(known.addresses(), set(&["a", "b"]));
    }

    #[test]
    fn a_lookup_that_fails_removes_nothing() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.learn(vec![Some(set(&["a"])), Some(set(&["b"]))], now);
        known.learn(vec![Some(set(&["c"])), None], now + FORGET_AFTER);
        assert!(!known.learn(vec![None, None], now + 2 * FORGET_AFTER));
        known.learn(vec![Some(set(&["c"])), None], now + 3 * FORGET_AFTER);
        assert_eq!(known.addresses(), set(&["a", "b", "c"]));
    }

    #[test]
    fn a_lookup_that_was_started_again_removes_nothing() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.learn(vec![Some(set(&["a", "b"]))], now);
        known.learn(vec![Some(set(&[]))], now + SECOND);
        known.learn(vec![Some(set(&["b"]))], now + FORGET_AFTER);
        assert_eq!(known.addresses(), set(&["a", "b"]));
        known.learn(vec![Some(set(&["a", "b"]))], now + FORGET_AFTER + SECOND);
        known.learn(vec![Some(set(&["b"]))], now + FORGET_AFTER + 2 * SECOND);
        assert_eq!(known.addresses(), set(&["a", "b"]), "its time counts anew");
    }

    #[test]
    fn an_address_goes_when_all_have_answered_without_it_for_a_minute() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.learn(vec![Some(set(&["a", "b"])), Some(set(&[]))], now);
        known.learn(vec![Some(set(&["b"])), Some(set(&[]))], now + SECOND);
        known.learn(vec![Some(set(&["b"])), Some(set(&[]))], now + FORGET_AFTER);
        assert_eq!(known.addresses(), set(&["a", "b"]));
        known.learn(vec![Some(set(&["b"])), Some(set(&[]))], now + FORGET_AFTER + SECOND);
        assert_eq!(known.addresses(), set(&["b"]));
    }
}
