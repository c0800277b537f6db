//! What can be done to a cluster, in a random order, and what was done.

use std::fmt::{self, Write as _};
use std::time::Duration;

use tokio::task::JoinSet;
use tsp_core::{Millis, Timestamp};

use super::waits::Waits;
use crate::harness::cluster::{Cluster, Role};
use crate::harness::figures::MACHINE;
use crate::harness::process::{Process, run_within};
use crate::harness::proxy::{Flow, Way};
use crate::harness::servers::SHARDS;
use crate::harness::{TestRng, now, past};

/// A process that is gone without a word is replaced within this.
const TAKEOVER: Millis = Millis::from_secs(10);
/// After a database is back.
const RECONNECT: Millis = Millis::from_secs(15);
/// Messages that died with an nsqd are sent again after half a minute.
const RESEND: Millis = Millis::from_secs(45);
/// One run of a move: it waits for half a minute until every process knows the new data source.
const MOVE: Duration = Duration::from_mins(1);
const MOVE_AGAIN: Millis = Millis::from_ms(200);
/// With the time between them more than any fault lasts.
const MOVE_TRIES: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Process(Role),
    Nsqd,
    Lookupd,
    Database,
    /// The way of a process to the databases.
    DatabaseEdge(Role),
    /// The way of all processes to one nsqd.
    NsqdEdge,
    /// The way of a process to nsqlookupd.
    LookupdEdge,
    /// It moves to the other data source while something else is hit.
    Shard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// kill -9, and a start after a while.
    Kill,
    /// SIGSTOP, and SIGCONT after a while.
    Freeze,
    /// Every connection on a way ends, and no new one gets through.
    Close,
    /// What is sent on a way comes late.
    Slow,
    /// What is sent comes when it is over.
    Jam,
    /// In one direction what is sent comes when it is over, or never.
    OneWay,
    Move,
}

/// A fault that is still to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Card {
    subject: Subject,
    blow: Blow,
    lasts: Millis,
}

/// Every kind of fault once, in a random order, and then again.
#[derive(Debug)]
pub(super) struct Deck {
    cards: Vec<(Subject, Blow)>,
    longest: Millis,
}

/// A fault that was.
#[derive(Debug)]
pub(super) struct Fault {
    card: Card,
    name: String,
    /// The process that was hit.
    node: Option<String>,
    pub(super) from: Timestamp,
    /// Since when everything runs again.
    to: Timestamp,
    /// By when all had come that was accepted before.
    pub(super) over_at: Timestamp,
}

impl Deck {
    /// Of faults that last so long at most.
    pub(super) fn lasting(longest: Millis) -> Self {
        Self { cards: Vec::new(), longest }
    }

    pub(super) fn draw(&mut self, rng: &mut TestRng) -> Card {
        if self.cards.is_empty() {
            self.cards = all();
        }
        assert!(!self.cards.is_empty(), "`TSP_CHAOS_ONLY` is part of a subject's name, such as `database`");
        let (subject, blow) = self.cards.swap_remove(below(rng, self.cards.len()));
        let [least, most] = match blow {
            Blow::Kill => [Millis::ZERO, Millis::from_secs(2)],
            _ => [Millis::from_secs(1), self.longest],
        };
        let more = rng.below(u64::try_from(most.ms() - least.ms()).expect("it is more"));
        Card { subject, blow, lasts: Millis::from_ms(least.ms() + i64::try_from(more).expect("it is less")) }
    }
}

fn below(rng: &mut TestRng, end: usize) -> usize {
    let end = u64::try_from(end).expect("it is small");
    usize::try_from(rng.below(end)).expect("it is small")
}

/// Every kind of fault, or those that were asked for.
fn all() -> Vec<(Subject, Blow)> {
    let roles = [Role::Web, Role::Fetcher, Role::Worker];
    let things =
        roles.map(Subject::Process).into_iter().chain([Subject::Nsqd, Subject::Lookupd, Subject::Database]);
    let ways = roles.map(Subject::DatabaseEdge).into_iter().chain([Subject::NsqdEdge, Subject::LookupdEdge]);
    let card = |subject| move |blow| (subject, blow);
    let mut all: Vec<_> = things.flat_map(|thing| [Blow::Kill, Blow::Freeze].map(card(thing))).collect();
    all.extend(ways.flat_map(|way| [Blow::Close, Blow::Slow, Blow::Jam, Blow::OneWay].map(card(way))));
    all.extend([(Subject::Shard, Blow::Move); 2]);
    #[expect(clippy::disallowed_methods, reason = "what a run is about is chosen where it is started")]
    let only = std::env::var("TSP_CHAOS_ONLY").unwrap_or_default().to_lowercase();
    all.retain(|(subject, _)| format!("{subject:?}").to_lowercase().contains(&only));
    all
}

/// Kills a server and starts it again at the time, or freezes it until then. The servers' own calls block.
macro_rules! hurt {
    ($server:ident, $blow:expr, $until:expr) => {{
        match $blow {
            Blow::Kill => $server.kill(),
            _ => $server.pause(),
        }
        past($until).await;
        match $blow {
            Blow::Kill => {
                let restarting = tokio::task::spawn_blocking(move || $server.restart());
                let restarted = restarting.await.expect("it does not panic");
                restarted.unwrap_or_else(|error| panic!("{error}"));
            }
            _ => $server.resume(),
        }
    }};
}

impl Blow {
    /// What becomes of a way. Chance decides about the direction and the delay.
    fn way(self, rng: &mut TestRng) -> Way {
        match self {
            Self::Close => Way::closed(),
            Self::Slow => Way::both(Flow::Slow(Duration::from_millis(50 + rng.below(400)))),
            Self::Jam => Way::both(Flow::Held),
            Self::OneWay => {
                let flow = if rng.below(2) == 0 { Flow::Held } else { Flow::Lost };
                match rng.below(2) {
                    0 => Way { to_server: flow, ..Way::default() },
                    _ => Way { from_server: flow, ..Way::default() },
                }
            }
            Self::Kill | Self::Freeze | Self::Move => unreachable!("{self:?} is not for a way"),
        }
    }
}

impl Card {
    pub(super) fn is_move(self) -> bool {
        self.blow == Blow::Move
    }

    /// Strikes, and returns when all runs again.
    pub(super) async fn strike(self, cluster: &mut Cluster, rng: &mut TestRng) -> Fault {
        let number = below(rng, 2);
        let from = now();
        let until = from.plus(self.lasts);
        let (name, node) = match self.subject {
            Subject::Process(role) => {
                let name = self.strike_process(cluster.process(role, number), until).await;
                (name.clone(), Some(name))
            }
            Subject::Nsqd => {
                let nsqd = cluster.servers().nsqds()[number].clone();
                hurt!(nsqd, self.blow, until);
                (format!("nsqd-{number}"), None)
            }
            Subject::Lookupd => {
                let lookupd = cluster.servers().lookupd().clone();
                hurt!(lookupd, self.blow, until);
                ("nsqlookupd".to_owned(), None)
            }
            Subject::Database => {
                let database = cluster.servers().mariadb();
                hurt!(database, self.blow, until);
                ("mariadb".to_owned(), None)
            }
            Subject::DatabaseEdge(role) => {
                let node = cluster.process(role, number).name().to_owned();
                let way = self.block(until, rng, |way| cluster.edges(role, number).database.set(way)).await;
                (format!("{node} to mariadb, {way}"), Some(node))
            }
            Subject::NsqdEdge => {
                let way = self.block(until, rng, |way| cluster.servers().nsqd_edge(number).set(way)).await;
                (format!("all to nsqd-{number}, {way}"), None)
            }
            Subject::LookupdEdge => {
                let role = [Role::Web, Role::Fetcher, Role::Worker][below(rng, 3)];
                let name = cluster.process(role, number).name().to_owned();
                let way = self.block(until, rng, |way| cluster.edges(role, number).lookupd.set(way)).await;
                (format!("{name} to nsqlookupd, {way}"), None)
            }
            Subject::Shard => unreachable!("a shard moves by `Move`"),
        };
        Fault { card: self, name, node, from, to: now(), over_at: now() }
    }

    async fn strike_process(self, process: &mut Process, until: Timestamp) -> String {
        if self.blow == Blow::Kill {
            process.kill9().await;
            past(until).await;
            process.boot().await;
        } else {
            process.freeze().await;
            past(until).await;
            process.thaw().await;
        }
        process.name().to_owned()
    }

    async fn block(self, until: Timestamp, rng: &mut TestRng, set: impl Fn(Way)) -> String {
        let way = self.blow.way(rng);
        set(way);
        past(until).await;
        set(Way::default());
        way.to_string()
    }
}

/// A shard on its way to the other data source.
#[derive(Debug)]
pub(super) struct Move {
    shard: usize,
    to: usize,
    from: Timestamp,
    running: JoinSet<()>,
}

impl Move {
    pub(super) fn start(cluster: &Cluster, rng: &mut TestRng) -> Self {
        let shard = below(rng, usize::from(SHARDS));
        let to = 1 - cluster.servers().place_of(shard);
        let file = cluster.file().display().to_string();
        let mut running = JoinSet::new();
        running.spawn(async move {
            let (number, source) = (shard.to_string(), ["a", "b"][to]);
            let arguments = ["shard", "move", &number, "--to", source, "--config", &file];
            let mut said = String::new();
            // Broken off by a fault beside it, the same command goes on where it was.
            for _ in 0..MOVE_TRIES {
                let ended = run_within(MOVE, &arguments).await;
                if ended.code == Some(0) {
                    return;
                }
                said = ended.stderr;
                past(now().plus(MOVE_AGAIN)).await;
            }
            panic!("shard {shard} could not be moved: {said}");
        });
        Self { shard, to, from: now(), running }
    }

    /// Waits until it is there.
    pub(super) async fn end(mut self, cluster: &Cluster) -> Fault {
        let moved = self.running.join_next().await.expect("it was started");
        moved.unwrap_or_else(|error| panic!("{error}"));
        cluster.servers().moved(self.shard, self.to);
        let name = format!("shard {} to {}", self.shard, ["a", "b"][self.to]);
        let card = Card { subject: Subject::Shard, blow: Blow::Move, lasts: Millis::ZERO };
        Fault { card, name, node: None, from: self.from, to: now(), over_at: now() }
    }
}

impl Fault {
    /// Whether this process was hit at some time between these.
    pub(super) fn hit(&self, process: &str, from: Timestamp, to: Timestamp) -> bool {
        self.node.as_deref() == Some(process) && self.was_between(from, to)
    }

    pub(super) fn was_between(&self, from: Timestamp, to: Timestamp) -> bool {
        self.from <= to && from <= self.to
    }

    /// By when a callback must have come that this fault has held up.
    pub(super) fn forgiven_until(&self) -> Timestamp {
        self.promised_by().plus(MACHINE)
    }

    fn promised_by(&self) -> Timestamp {
        match (self.card.subject, self.card.blow) {
            // The other one of two takes over, whenever this one is started again.
            (Subject::Process(_), Blow::Kill) => self.from.plus(TAKEOVER),
            (Subject::Database | Subject::DatabaseEdge(_), _) => self.to.plus(RECONNECT),
            (Subject::Nsqd, Blow::Kill) | (Subject::NsqdEdge, _) => self.to.plus(RESEND),
            _ => self.to.plus(TAKEOVER),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasted = self.to.since(self.from).ms();
        match self.card.blow {
            Blow::Kill => write!(f, "{} killed, {lasted} ms until it ran again", self.name),
            Blow::Freeze => write!(f, "{} frozen for {lasted} ms", self.name),
            Blow::Move => write!(f, "{} in {lasted} ms", self.name),
            Blow::Close | Blow::Slow | Blow::Jam | Blow::OneWay => write!(f, "{} for {lasted} ms", self.name),
        }
    }
}

/// One line for each fault, with the longest wait that fell into it.
pub(super) fn table(faults: &[Fault], waits: &Waits, begun_at: Timestamp) -> String {
    let mut text = format!("{:>3} {:>9}  {:<64} {:>12}\n", "#", "at", "fault", "longest wait");
    for (number, fault) in (1..).zip(faults) {
        let at = fault.from.since(begun_at).ms();
        let longest = waits.longest_within(fault.from, fault.over_at);
        let _ = writeln!(text, "{number:>3} {at:>6} ms  {:<64} {longest:>9} ms", fault.to_string());
    }
    text
}
