//! Guarded look-up of host names: every answer is checked before one of them is used, so that the
//! connector needs no second look-up and DNS cannot be changed in between.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};
use tsp_core::egress::{EgressDenied, EgressPolicy};

/// One look-up takes at most this long.
const LOOKUP_LIMIT: Duration = Duration::from_secs(2);
/// How long an answer is used, good or bad. The system's resolver does not tell its own time to live.
const ANSWER_TTL: Duration = Duration::from_secs(5);
/// The most names remembered.
const NAMES_MAX: usize = 10_000;
/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// The system's name service, or a test's.
#[async_trait]
pub trait Lookup: Send + Sync + Debug {
    /// All addresses of `name`.
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// `getaddrinfo` on the blocking threads of the runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Why a name leads nowhere.
#[derive(Debug, Clone, Error)]
pub enum LookupError {
    /// One of its addresses is refused: then the whole name is.
    #[error(transparent)]
    Denied(#[from] EgressDenied),
    #[error("the name has no address")]
    NotFound,
    #[error("the look-up took longer than {} s", LOOKUP_LIMIT.as_secs())]
    Timeout,
    #[error("the look-up failed: {0}")]
    Failed(Arc<io::Error>),
}

type Answer = Result<Arc<[IpAddr]>, LookupError>;

#[derive(Debug)]
struct Entry {
    asked_at: Instant,
    /// Set by the first caller; the others wait for it, so that a burst asks once.
    answer: OnceCell<Answer>,
}

#[derive(Debug)]
pub(super) struct Resolver {
    policy: Arc<EgressPolicy>,
    lookup: Arc<dyn Lookup>,
    limit: Duration,
    names: Mutex<HashMap<Box<str>, Arc<Entry>>>,
}

impl Resolver {
    pub(super) fn new(policy: Arc<EgressPolicy>, lookup: Arc<dyn Lookup>) -> Self {
        Self { policy, lookup, limit: LOOKUP_LIMIT, names: Mutex::default() }
    }

    /// The checked addresses of `name`, at least one. `now` decides whether a kept answer still holds.
    pub(super) async fn resolve(&self, name: &str, now: Instant) -> Answer {
        let entry = self.entry(name, now);
        entry.answer.get_or_init(|| self.look_up(name)).await.clone()
    }

    fn entry(&self, name: &str, now: Instant) -> Arc<Entry> {
        let is_fresh = |entry: &Entry| now.duration_since(entry.asked_at) < ANSWER_TTL;
        let mut names = self.names.lock();
        if let Some(entry) = names.get(name).filter(|entry| is_fresh(entry)) {
            return Arc::clone(entry);
        }
        if names.len() >= NAMES_MAX {
            names.retain(|_, entry| is_fresh(entry));
        }
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        let entry = Arc::new(Entry { asked_at: now, answer: OnceCell::new() });
        names.insert(name.into(), Arc::clone(&entry));
        entry
    }

    async fn look_up(&self, name: &str) -> Answer {
        let mut addresses = match timeout(self.limit, self.lookup.addresses(name)).await {
            Ok(Ok(addresses)) if addresses.is_empty() => return Err(LookupError::NotFound),
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => return Err(LookupError::Failed(Arc::new(error))),
            Err(_) => return Err(LookupError::Timeout),
        };
        for address in &addresses {
            self.policy.check_address(*address)?;
        }
        addresses.truncate(ADDRESSES_MAX);
        Ok(addresses.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Answers the n-th look-up with the n-th list.
    #[derive(Debug, Default)]
    struct Script {
        answers: Vec<Vec<&'static str>>,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl Lookup for Script {
        async fn addresses(&self, _name: &str) -> io::Result<Vec<IpAddr>> {
            let turn = self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(self.answers[turn.min(self.answers.len() - 1)]
                .iter()
                .map(|text| text.parse().unwrap())
                .collect())
        }
    }

    fn resolver(answers: &[&[&'static str]]) -> (Resolver, Arc<Script>) {
        let answers = answers.iter().map(|answer| answer.to_vec()).collect();
        let script = Arc::new(Script { answers, asked: AtomicUsize::new(0) });
        (Resolver::new(Arc::default(), Arc::clone(&script) as Arc<dyn Lookup>), script)
    }

    #[tokio::test]
    async fn one_refused_answer_refuses_the_name() {
        let (resolver, _) = resolver(&[&["1.1.1.1", "10.0.0.1"]]);
        assert!(matches!(resolver.resolve("mixed.test", Instant::now()).await, Err(LookupError::Denied(_))));
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_its_time_and_every_new_one_is_checked() {
        let (resolver, script) = resolver(&[&["1.1.1.1"], &["127.0.0.1"]]);
        let now = Instant::now();
        assert!(resolver.resolve("moving.test", now).await.is_ok());
        assert!(resolver.resolve("moving.test", now).await.is_ok());
        assert_eq!(script.asked.load(Ordering::SeqCst), 1);
        assert!(matches!(
            resolver.resolve("moving.test", now + ANSWER_TTL).await,
            Err(LookupError::Denied(_))
        ));
    }

    #[tokio::test]
    async fn a_burst_asks_once() {
        let (resolver, script) = resolver(&[&["1.1.1.1"]]);
        let answers =
            futures::future::join_all((0..100).map(|_| resolver.resolve("busy.test", Instant::now()))).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(script.asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn at_most_sixteen_addresses_are_kept_but_all_are_checked() {
        let (resolver, _) = resolver(&[&["1.1.1.1"; 20]]);
        assert_eq!(resolver.resolve("wide.test", Instant::now()).await.unwrap().len(), ADDRESSES_MAX);
        let mut many = vec!["1.1.1.1"; 20];
        many.push("192.168.0.1");
        let (resolver, _) = self::resolver(&[&many]);
        assert!(resolver.resolve("wide.test", Instant::now()).await.is_err());
    }

    #[derive(Debug)]
    struct Hangs;

    #[async_trait]
    impl Lookup for Hangs {
        async fn addresses(&self, _name: &str) -> io::Result<Vec<IpAddr>> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_slow_name_service_is_given_up() {
        let mut resolver = Resolver::new(Arc::default(), Arc::new(Hangs));
        resolver.limit = Duration::from_millis(20);
        assert!(matches!(resolver.resolve("slow.test", Instant::now()).await, Err(LookupError::Timeout)));
    }
}
