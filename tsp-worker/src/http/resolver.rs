//! Guarded look-up of host names: every answer is checked before one of them is used, so that the
//! connector needs no second look-up and DNS cannot be changed in between.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tsp_core::egress::{EgressDenied, EgressPolicy};
use tsp_core::ids::AppId;

use super::lookup_limits::{LookupLimits, Pass};

/// One look-up takes at most this long.
const LOOKUP_LIMIT: Duration = Duration::from_secs(2);
/// How long an answer is used: as long as the name server says, within these.
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_mins(1);
/// How long it is remembered that a name led nowhere.
const FAILURE_TTL: Duration = Duration::from_secs(5);
/// How long the last good addresses stand in for a name server that does not answer (RFC 8767).
const STALE_MAX: Duration = Duration::from_hours(1);
/// Where there are such addresses, a look-up is not waited for any longer.
const STALE_AFTER: Duration = Duration::from_millis(500);
/// At the end of the process a look-up gets only this much more.
const STOPPING_WAIT: Duration = Duration::from_millis(250);
/// The most names remembered.
const NAMES_MAX: usize = 10_000;
/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// The system's name service, or a test's.
#[async_trait]
pub trait Lookup: Send + Sync + Debug {
    /// The addresses of a name that this machine knows without asking anybody.
    fn known(&self, _name: &str) -> Option<Vec<IpAddr>> {
        None
    }

    /// All addresses of `name`.
    async fn addresses(&self, name: &str) -> Result<LookupAnswer, LookupError>;
}

/// An answer of a name service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupAnswer {
    pub addresses: Vec<IpAddr>,
    /// How long it holds.
    pub ttl: Duration,
}

/// Why a name leads nowhere.
#[derive(Debug, Clone, Error)]
pub enum LookupError {
    /// One of its addresses is refused: then the whole name is.
    #[error(transparent)]
    Denied(#[from] EgressDenied),
    #[error("the name has no address")]
    NotFound,
    #[error("the name servers did not answer in time")]
    Timeout,
    #[error("the look-up failed: {0}")]
    Failed(Arc<io::Error>),
}

impl LookupError {
    /// Nobody said that the name is no more: what was good may still be.
    fn is_silence(&self) -> bool {
        matches!(self, Self::Timeout | Self::Failed(_))
    }
}

type Answer = Result<Arc<[IpAddr]>, LookupError>;
type PendingLookup = BoxFuture<'static, Answer>;

/// What is known of a name.
#[derive(Debug)]
struct Entry {
    /// With the time until which it is used.
    answer: Option<(Answer, Instant)>,
    /// The last good addresses and when they were looked up.
    good: Option<(Arc<[IpAddr]>, Instant)>,
    /// The look-up that is under way, as long as somebody waits for it.
    pending_lookup: Option<WeakShared<PendingLookup>>,
    used_at: Instant,
}

#[derive(Debug)]
pub(super) struct Resolver {
    inner: Arc<Inner>,
    lookup_limits: LookupLimits,
    stopping: watch::Sender<bool>,
}

#[derive(Debug)]
struct Inner {
    policy: Arc<EgressPolicy>,
    lookup: Arc<dyn Lookup>,
    names: Mutex<HashMap<Box<str>, Entry>>,
}

impl Resolver {
    /// At most `look_ups` at a time; each takes a descriptor, at times two.
    pub(super) fn new(policy: Arc<EgressPolicy>, lookup: Arc<dyn Lookup>, look_ups: usize) -> Self {
        let inner = Arc::new(Inner { policy, lookup, names: Mutex::default() });
        Self { inner, lookup_limits: LookupLimits::new(look_ups), stopping: watch::Sender::new(false) }
    }

    /// From now on a look-up that takes long is given up.
    pub(super) fn stopping(&self) {
        self.stopping.send_replace(true);
    }

    /// The checked addresses of `name`, at least one, looked up on behalf of `app`.
    pub(super) async fn resolve(&self, app: AppId, name: &str) -> Answer {
        if let Some(addresses) = self.inner.lookup.known(name) {
            return self.inner.check(addresses);
        }
        let fresh = self.fresh(app, name);
        let Some(stale) = self.inner.stale(name) else { return fresh.await };
        match timeout(STALE_AFTER, fresh).await {
            Ok(Err(error)) if error.is_silence() => Ok(stale),
            Ok(answer) => answer,
            Err(_) => {
                // The others need not wait for it as well.
                self.inner.keep(name, Err(LookupError::Timeout), FAILURE_TTL);
                Ok(stale)
            }
        }
    }

    async fn fresh(&self, app: AppId, name: &str) -> Answer {
        let mut stopping = self.stopping.subscribe();
        let stopped = async {
            // Only a dropped sender ends this wait with an error, and `self` holds it.
            drop(stopping.wait_for(|stopping| *stopping).await);
            sleep(STOPPING_WAIT).await;
        };
        tokio::select! {
            biased;
            answer = self.in_turn(app, name) => answer,
            () = stopped => Err(LookupError::Timeout),
        }
    }

    async fn in_turn(&self, app: AppId, name: &str) -> Answer {
        if let Some(answer) = self.inner.answer(name) {
            return answer.await;
        }
        let pass = self.lookup_limits.enter(app, name).await;
        // Somebody else may have asked meanwhile; a look-up that is under way needs no second pass.
        match self.inner.answer(name) {
            Some(answer) => {
                drop(pass);
                answer.await
            }
            None => self.inner.depart(name, pass).await,
        }
    }
}

impl Inner {
    /// The answer that is known, or the look-up that will bring it.
    fn answer(&self, name: &str) -> Option<Shared<PendingLookup>> {
        let now = Instant::now();
        let mut names = self.names.lock();
        let entry = names.get_mut(name)?;
        entry.used_at = now;
        match &entry.answer {
            Some((answer, until)) if now < *until => {
                let answer = answer.clone();
                Some(async move { answer }.boxed().shared())
            }
            _ => entry.pending_lookup.as_ref().and_then(WeakShared::upgrade),
        }
    }

    fn stale(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        let names = self.names.lock();
        let (addresses, at) = names.get(name)?.good.as_ref()?;
        (at.elapsed() < STALE_MAX).then(|| Arc::clone(addresses))
    }

    /// Starts a look-up that others can wait for, too. It goes on as long as one of them does.
    fn depart(self: &Arc<Self>, name: &str, pass: Pass) -> Shared<PendingLookup> {
        let (this, asked) = (Arc::clone(self), Box::<str>::from(name));
        let pending_lookup = async move {
            let (answer, ttl) = this.look_up(&asked).await;
            this.keep(&asked, answer.clone(), ttl);
            drop(pass);
            answer
        };
        let pending_lookup = pending_lookup.boxed().shared();
        self.change(name, |entry| entry.pending_lookup = pending_lookup.downgrade());
        pending_lookup
    }

    async fn look_up(&self, name: &str) -> (Answer, Duration) {
        match timeout(LOOKUP_LIMIT, self.lookup.addresses(name)).await {
            Ok(Ok(found)) => (self.check(found.addresses), found.ttl.clamp(TTL_MIN, TTL_MAX)),
            Ok(Err(error)) => (Err(error), FAILURE_TTL),
            Err(_) => (Err(LookupError::Timeout), FAILURE_TTL),
        }
    }

    fn check(&self, mut addresses: Vec<IpAddr>) -> Answer {
        if addresses.is_empty() {
            return Err(LookupError::NotFound);
        }
        for address in &addresses {
            self.policy.check_address(*address)?;
        }
        addresses.truncate(ADDRESSES_MAX);
        Ok(addresses.into())
    }

    fn keep(&self, name: &str, answer: Answer, ttl: Duration) {
        self.change(name, |entry| {
            let now = Instant::now();
            match &answer {
                Ok(addresses) => entry.good = Some((Arc::clone(addresses), now)),
                Err(error) if !error.is_silence() => entry.good = None,
                Err(_) => {}
            }
            entry.answer = Some((answer, now + ttl));
        });
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Entry)) {
        let mut names = self.names.lock();
        if let Some(entry) = names.get_mut(name) {
            return change(entry);
        }
        if names.len() >= NAMES_MAX {
            forget_a_quarter(&mut names);
        }
        let mut entry = Entry { answer: None, good: None, pending_lookup: None, used_at: Instant::now() };
        change(&mut entry);
        names.insert(name.into(), entry);
    }
}

/// Those that were used longest ago.
fn forget_a_quarter(names: &mut HashMap<Box<str>, Entry>) {
    let mut times: Vec<Instant> = names.values().map(|entry| entry.used_at).collect();
    let quarter = times.len() / 4;
    let (_, &mut oldest_kept, _) = times.select_nth_unstable(quarter);
    let mut surplus = quarter + 1;
    names.retain(|_, entry| {
        let goes = surplus > 0 && entry.used_at <= oldest_kept;
        surplus -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::sync::Notify;
    use tokio::time::advance;

    use super::super::lookup_limits::LOOK_UPS_MAX;
    use super::*;

    const APP: AppId = AppId::new(1);
    const OTHER: AppId = AppId::new(2);

    /// What a name service does.
    #[derive(Debug, Clone)]
    enum ServiceAnswer {
        Answer(&'static [&'static str], u64),
        Deny,
        Fail,
        Hang,
    }

    /// Does the n-th thing for the n-th look-up, and the last one from then on.
    #[derive(Debug, Default)]
    struct Script {
        plan: Vec<ServiceAnswer>,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl Lookup for Script {
        fn known(&self, name: &str) -> Option<Vec<IpAddr>> {
            (name == "localhost").then(|| vec!["127.0.0.1".parse().unwrap()])
        }

        async fn addresses(&self, _name: &str) -> Result<LookupAnswer, LookupError> {
            let turn = self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            match self.plan[turn.min(self.plan.len() - 1)] {
                ServiceAnswer::Answer(addresses, ttl) => Ok(LookupAnswer {
                    addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
                    ttl: Duration::from_secs(ttl),
                }),
                ServiceAnswer::Deny => Err(LookupError::NotFound),
                ServiceAnswer::Fail => Err(LookupError::Failed(Arc::new(io::Error::other("refused")))),
                ServiceAnswer::Hang => pending().await,
            }
        }
    }

    fn resolver(plan: &[ServiceAnswer]) -> (Resolver, Arc<Script>) {
        let script = Arc::new(Script { plan: plan.to_vec(), asked: AtomicUsize::new(0) });
        (Resolver::new(Arc::default(), Arc::clone(&script) as Arc<dyn Lookup>, LOOK_UPS_MAX), script)
    }

    fn asked(script: &Script) -> usize {
        script.asked.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn one_refused_answer_refuses_the_name() {
        let (resolver, _) = resolver(&[ServiceAnswer::Answer(&["1.1.1.1", "10.0.0.1"], 60)]);
        assert!(matches!(resolver.resolve(APP, "mixed.test").await, Err(LookupError::Denied(_))));
        // What the machine knows by itself is checked as well.
        assert!(matches!(resolver.resolve(APP, "localhost").await, Err(LookupError::Denied(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_its_time_and_every_new_one_is_checked() {
        let (resolver, script) =
            resolver(&[ServiceAnswer::Answer(&["1.1.1.1"], 30), ServiceAnswer::Answer(&["127.0.0.1"], 30)]);
        assert!(resolver.resolve(APP, "moving.test").await.is_ok());
        advance(Duration::from_millis(29_900)).await;
        assert!(resolver.resolve(APP, "moving.test").await.is_ok());
        assert_eq!(asked(&script), 1);
        advance(Duration::from_millis(100)).await;
        assert!(matches!(resolver.resolve(APP, "moving.test").await, Err(LookupError::Denied(_))));
        assert!(resolver.inner.stale("moving.test").is_none(), "what was good is no more");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_an_answer_has_bounds() {
        for (ttl, kept) in [(0, TTL_MIN), (86_400, TTL_MAX)] {
            let (resolver, script) = resolver(&[ServiceAnswer::Answer(&["1.1.1.1"], ttl)]);
            resolver.resolve(APP, "a.test").await.unwrap();
            advance(kept.saturating_sub(Duration::from_millis(1))).await;
            resolver.resolve(APP, "a.test").await.unwrap();
            assert_eq!(asked(&script), 1);
            advance(Duration::from_millis(1)).await;
            resolver.resolve(APP, "a.test").await.unwrap();
            assert_eq!(asked(&script), 2);
        }
    }

    #[tokio::test]
    async fn a_burst_asks_once() {
        let (resolver, script) = resolver(&[ServiceAnswer::Answer(&["1.1.1.1"], 60)]);
        let answers = join_all((0..100).map(|_| resolver.resolve(APP, "busy.test"))).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(asked(&script), 1);
    }

    #[tokio::test]
    async fn at_most_sixteen_addresses_are_kept_but_all_are_checked() {
        let (wide, _) = resolver(&[ServiceAnswer::Answer(&["1.1.1.1"; 20], 60)]);
        assert_eq!(wide.resolve(APP, "wide.test").await.unwrap().len(), ADDRESSES_MAX);
        let mut many = vec!["1.1.1.1".parse().unwrap(); 20];
        many.push("192.168.0.1".parse().unwrap());
        assert!(wide.inner.check(many).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_given_up_and_remembered_for_a_while() {
        let (resolver, script) = resolver(&[ServiceAnswer::Hang]);
        let begun = Instant::now();
        assert!(matches!(resolver.resolve(APP, "slow.test").await, Err(LookupError::Timeout)));
        assert_eq!(begun.elapsed(), LOOKUP_LIMIT);
        assert!(matches!(resolver.resolve(APP, "slow.test").await, Err(LookupError::Timeout)));
        assert_eq!((begun.elapsed(), asked(&script)), (LOOKUP_LIMIT, 1));
        advance(FAILURE_TTL).await;
        assert!(resolver.resolve(APP, "slow.test").await.is_err());
        assert_eq!(asked(&script), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_addresses_stand_in_for_a_silent_name_server() {
        let good = ServiceAnswer::Answer(&["1.1.1.1"], 10);
        let (resolver, script) =
            resolver(&[good.clone(), ServiceAnswer::Hang, ServiceAnswer::Fail, good, ServiceAnswer::Deny]);
        resolver.resolve(APP, "a.test").await.unwrap();
        advance(Duration::from_secs(10)).await;
        let begun = Instant::now();
        let stale = join_all((0..10).map(|_| resolver.resolve(APP, "a.test"))).await;
        assert!(stale.iter().all(Result::is_ok));
        assert_eq!((begun.elapsed(), asked(&script)), (STALE_AFTER, 2));
        resolver.resolve(APP, "a.test").await.unwrap();
        assert_eq!(begun.elapsed(), STALE_AFTER, "it is known to be silent");
        for asked_then in [3, 4] {
            advance(FAILURE_TTL.max(TTL_MAX)).await;
            assert!(resolver.resolve(APP, "a.test").await.is_ok());
            assert_eq!(asked(&script), asked_then);
        }
        // The name server says that the name is gone: that is an answer.
        advance(TTL_MAX).await;
        assert!(matches!(resolver.resolve(APP, "a.test").await, Err(LookupError::NotFound)));

        let (resolver, _) = self::resolver(&[ServiceAnswer::Answer(&["1.1.1.1"], 10), ServiceAnswer::Fail]);
        resolver.resolve(APP, "a.test").await.unwrap();
        advance(STALE_MAX).await;
        assert!(resolver.resolve(APP, "a.test").await.is_err());
    }

    /// Silent for names of `dead.test`; answers the others once it is let go.
    #[derive(Debug, Default)]
    struct Half {
        go: Notify,
    }

    #[async_trait]
    impl Lookup for Half {
        async fn addresses(&self, name: &str) -> Result<LookupAnswer, LookupError> {
            if name.ends_with(".dead.test") {
                pending::<()>().await;
            }
            self.go.notified().await;
            Ok(LookupAnswer { addresses: vec!["1.1.1.1".parse().unwrap()], ttl: TTL_MAX })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn dead_names_delay_neither_another_app_nor_another_zone() {
        let half = Arc::new(Half::default());
        half.go.notify_one();
        let resolver = Resolver::new(Arc::default(), Arc::clone(&half) as Arc<dyn Lookup>, LOOK_UPS_MAX);
        let names: Vec<String> = (0..700).map(|n| format!("h{n}.dead.test")).collect();
        let mut dead = join_all(names.iter().map(|name| resolver.resolve(APP, name)));
        assert!(futures::poll!(&mut dead).is_pending());
        let begun = Instant::now();
        assert!(resolver.resolve(OTHER, "good.test").await.is_ok());
        half.go.notify_one();
        assert!(resolver.resolve(APP, "fine.test").await.is_ok());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_up_outlives_the_one_who_began_it() {
        let half = Arc::new(Half::default());
        let resolver = Resolver::new(Arc::default(), Arc::clone(&half) as Arc<dyn Lookup>, LOOK_UPS_MAX);
        let mut first = Box::pin(resolver.resolve(APP, "good.test"));
        let mut second = Box::pin(resolver.resolve(OTHER, "good.test"));
        assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
        drop(first);
        half.go.notify_one();
        assert!(second.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_process_waits_for_no_look_up() {
        let (resolver, _) = resolver(&[ServiceAnswer::Hang]);
        let names: Vec<String> = (0..700).map(|n| format!("h{n}.dead.test")).collect();
        let mut all = join_all(names.iter().map(|name| resolver.resolve(APP, name)));
        assert!(futures::poll!(&mut all).is_pending());
        let begun = Instant::now();
        resolver.stopping();
        assert!(all.await.iter().all(Result::is_err));
        assert_eq!(begun.elapsed(), STOPPING_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn the_names_used_last_are_remembered() {
        let (resolver, script) = resolver(&[ServiceAnswer::Answer(&["1.1.1.1"], 60)]);
        resolver.resolve(APP, "dear.test").await.unwrap();
        for n in 0..NAMES_MAX {
            advance(Duration::from_micros(1)).await;
            if n == NAMES_MAX / 2 {
                resolver.resolve(APP, "dear.test").await.unwrap();
            }
            resolver.inner.keep(&format!("h{n}.test"), Err(LookupError::NotFound), TTL_MAX);
        }
        assert!(resolver.inner.names.lock().len() <= NAMES_MAX);
        resolver.resolve(APP, "dear.test").await.unwrap();
        assert_eq!(asked(&script), 1);
    }
}
