//! What can be done to a cluster, in a random order, and what was done.

use std::fmt::{self, Write as _};

use tsp_core::{Millis, Timestamp};

use super::waits::Waits;
use crate::harness::cluster::{Cluster, Role};
use crate::harness::{Dice, now, past};

/// A process that is gone without a word is replaced within this.
const TAKEOVER: Millis = Millis::from_secs(10);
/// After a database is back.
const RECONNECT: Millis = Millis::from_secs(15);
/// Messages that died with an nsqd are sent again after half a minute.
const RESEND: Millis = Millis::from_secs(45);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Process(Role),
    Nsqd,
    Lookupd,
    Database,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// kill -9, and a start after a while.
    Kill,
    /// SIGSTOP, and SIGCONT after a while.
    Freeze,
}

/// A fault that is still to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Card {
    subject: Subject,
    blow: Blow,
}

/// Every kind of fault once, in a random order, and then again.
#[derive(Debug, Default)]
pub(super) struct Deck(Vec<Card>);

/// A fault that was.
#[derive(Debug)]
pub(super) struct Fault {
    card: Card,
    name: String,
    pub(super) from: Timestamp,
    /// Since when everything runs again.
    to: Timestamp,
    /// By when all had come that was accepted before.
    pub(super) over_at: Timestamp,
}

impl Deck {
    pub(super) fn draw(&mut self, dice: &mut Dice) -> Card {
        if self.0.is_empty() {
            let subjects = [
                Subject::Process(Role::Web),
                Subject::Process(Role::Fetcher),
                Subject::Process(Role::Worker),
                Subject::Nsqd,
                Subject::Lookupd,
                Subject::Database,
            ];
            #[expect(
                clippy::disallowed_methods,
                reason = "what a run is about is chosen where it is started"
            )]
            let only = std::env::var("TSP_CHAOS_ONLY").unwrap_or_default().to_lowercase();
            let chosen =
                subjects.into_iter().filter(|subject| format!("{subject:?}").to_lowercase().contains(&only));
            for subject in chosen {
                self.0.extend([Blow::Kill, Blow::Freeze].map(|blow| Card { subject, blow }));
            }
        }
        assert!(!self.0.is_empty(), "`TSP_CHAOS_ONLY` is part of a subject's name, such as `database`");
        let count = u64::try_from(self.0.len()).expect("it is small");
        self.0.swap_remove(usize::try_from(dice.below(count)).expect("it is small"))
    }
}

/// Kills a server and starts it again at the time, or freezes it until then. The servers' own calls block.
macro_rules! hurt {
    ($server:ident, $blow:expr, $until:expr) => {{
        match $blow {
            Blow::Kill => $server.kill(),
            Blow::Freeze => $server.pause(),
        }
        past($until).await;
        match $blow {
            Blow::Kill => {
                let restarting = tokio::task::spawn_blocking(move || $server.restart());
                let restarted = restarting.await.expect("it does not panic");
                restarted.unwrap_or_else(|error| panic!("{error}"));
            }
            Blow::Freeze => $server.resume(),
        }
    }};
}

impl Card {
    /// Strikes, and returns when all runs again.
    pub(super) async fn strike(self, cluster: &mut Cluster, dice: &mut Dice) -> Fault {
        let number = usize::try_from(dice.below(2)).expect("it is small");
        let lasts = match self.blow {
            Blow::Kill => dice.below(2_000),
            Blow::Freeze => 1_000 + dice.below(11_000),
        };
        let lasts = Millis::from_ms(i64::try_from(lasts).expect("it is small"));
        let from = now();
        let name = match self.subject {
            Subject::Process(role) => {
                let process = cluster.process(role, number);
                match self.blow {
                    Blow::Kill => {
                        process.kill9().await;
                        past(from.plus(lasts)).await;
                        process.boot().await;
                    }
                    Blow::Freeze => {
                        process.freeze().await;
                        past(from.plus(lasts)).await;
                        process.thaw().await;
                    }
                }
                process.name().to_owned()
            }
            Subject::Nsqd => {
                let nsqd = cluster.servers().nsqds()[number].clone();
                hurt!(nsqd, self.blow, from.plus(lasts));
                format!("nsqd-{number}")
            }
            Subject::Lookupd => {
                let lookupd = cluster.servers().lookupd().clone();
                hurt!(lookupd, self.blow, from.plus(lasts));
                "nsqlookupd".to_owned()
            }
            Subject::Database => {
                let database = cluster.servers().mariadb();
                hurt!(database, self.blow, from.plus(lasts));
                "mariadb".to_owned()
            }
        };
        Fault { card: self, name, from, to: now(), over_at: now() }
    }
}

impl Fault {
    /// Whether this process was hit at some time between these.
    pub(super) fn hit(&self, process: &str, from: Timestamp, to: Timestamp) -> bool {
        self.name == process && self.from <= to && from <= self.to
    }

    /// By when a callback must have come that this fault has held up.
    pub(super) fn forgiven_until(&self) -> Timestamp {
        match (self.card.subject, self.card.blow) {
            // The other one of two takes over, whenever this one is started again.
            (Subject::Process(_), Blow::Kill) => self.from.plus(TAKEOVER),
            (Subject::Database, _) => self.to.plus(RECONNECT),
            (Subject::Nsqd, Blow::Kill) => self.to.plus(RESEND),
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
        }
    }
}

/// One line for each fault, with the longest wait that fell into it.
pub(super) fn table(faults: &[Fault], waits: &Waits, begun_at: Timestamp) -> String {
    let mut text = format!("{:>3} {:>9}  {:<48} {:>12}\n", "#", "at", "fault", "longest wait");
    for (number, fault) in (1..).zip(faults) {
        let at = fault.from.since(begun_at).ms();
        let longest = waits.longest_within(fault.from, fault.over_at);
        let _ = writeln!(text, "{number:>3} {at:>6} ms  {:<48} {longest:>9} ms", fault.to_string());
    }
    text
}
