//! Which nsqds there are: a fixed list, or what the lookups say.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Jitter, Nsqds};
use crate::http::{HttpError, LookupdHttp};
use crate::metric_names;
use crate::names::Topic;

/// Each period is longer by up to this share, so that clients do not ask together.
const JITTER_SHARE: f64 = 0.3;
/// Pokes do not make a lookup be asked more often than this.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// How soon the lookups are asked again as long as no nsqd is known.
const FIRST_RETRY: Duration = Duration::from_secs(2);

/// `host:port` of each; `None` before the first answer.
pub(crate) type Addresses = watch::Receiver<Option<BTreeSet<String>>>;

pub(crate) struct Source {
    pub(crate) nsqds: Nsqds,
    /// Only nsqds that have it; all there are without.
    pub(crate) topic: Option<Topic>,
    pub(crate) every: Duration,
    pub(crate) jitter: Jitter,
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
    every: Duration,
    jitter: Jitter,
    poke: Arc<Notify>,
    sender: watch::Sender<Option<BTreeSet<String>>>,
}

impl Poller {
    async fn run(self) {
        loop {
            let answers = join_all(self.lookups.iter().map(|lookup| self.ask(lookup))).await;
            self.sender.send_if_modified(|known| {
                let merged = merge(known.as_ref(), answers);
                let news = merged.is_some() && merged != *known;
                if news {
                    *known = merged;
                }
                news
            });
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
        Ok(nodes.iter().map(crate::http::Node::address).collect())
    }
}

/// What is known after a round. Only if every lookup has answered may an address be missing that was there; if
/// none has, nothing changes.
fn merge(
    known: Option<&BTreeSet<String>>,
    answers: Vec<Option<BTreeSet<String>>>,
) -> Option<BTreeSet<String>> {
    let complete = answers.iter().all(Option::is_some);
    let mut answered = answers.into_iter().flatten().peekable();
    answered.peek()?;
    let mut union: BTreeSet<String> = answered.flatten().collect();
    if !complete {
        union.extend(known.into_iter().flatten().cloned());
    }
    Some(union)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn answers_are_united() {
        assert_eq!(merge(None, vec![Some(set(&["a"])), Some(set(&["b"]))]), Some(set(&["a", "b"])));
        assert_eq!(merge(None, vec![Some(set(&[]))]), Some(set(&[])));
    }

    #[test]
    fn a_lookup_that_fails_removes_nothing() {
        let known = set(&["a", "b"]);
        assert_eq!(merge(Some(&known), vec![Some(set(&["c"])), None]), Some(set(&["a", "b", "c"])));
        assert_eq!(merge(Some(&known), vec![None, None]), None);
    }

    #[test]
    fn an_address_goes_when_all_have_answered_without_it() {
        let known = set(&["a", "b"]);
        assert_eq!(merge(Some(&known), vec![Some(set(&["b"])), Some(set(&[]))]), Some(set(&["b"])));
    }
}
