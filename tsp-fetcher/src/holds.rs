//! What is held back, for which reasons, and until when.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use tsp_core::config::TaskConfig;
use tsp_core::{AppId, ConfigId, Timestamp};

/// Why rows do not go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    Paused,
    Disabled,
    /// The receiver asked for a wait.
    Parked,
    /// No more of it fits into the window.
    Slots,
}

impl Reason {
    const ALL: [Self; 4] = [Self::Paused, Self::Disabled, Self::Parked, Self::Slots];
    const FIRST: Self = Self::ALL[0];
    const LAST: Self = Self::ALL[Self::ALL.len() - 1];

    const fn stops(self) -> Stage {
        match self {
            Self::Paused | Self::Disabled | Self::Slots => Stage::Claim,
            Self::Parked => Stage::Publish,
        }
    }

    /// Whether only the fetcher knows of it; the others everybody reads from the config.
    const fn is_own(self) -> bool {
        matches!(self, Self::Parked | Self::Slots)
    }
}

/// What is stopped. A later stage includes those before it: of what is not published nothing is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Claim,
    Publish,
}

/// What is held: a row is held with its config, with its app, and with everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    All,
    App(AppId),
    Config(ConfigId),
}

impl Subject {
    /// Those that hold the rows of `config`, as far as its app is known.
    fn of(config: ConfigId, app: Option<AppId>) -> [Self; 3] {
        [Self::All, app.map_or(Self::All, Self::App), Self::Config(config)]
    }
}

/// Each subject with the reasons that it is held for. Counts that move with every call are asked where rows are
/// taken; what is kept here is their episodes: that nothing more could be taken, and that it can.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    /// With the end, if that is known.
    reasons: BTreeMap<(Subject, Reason), Option<Timestamp>>,
    ends: BTreeSet<(Timestamp, Subject, Reason)>,
    counts: [usize; Reason::ALL.len()],
    view: HoldsView,
}

impl Holds {
    /// Adds a reason, or lengthens it: of two ends the later one counts. Says whether `subject` is stopped at another
    /// stage by that.
    pub(crate) fn add(&mut self, subject: Subject, reason: Reason, until: Option<Timestamp>) -> bool {
        let before = self.stage_of(subject);
        match self.reasons.entry((subject, reason)) {
            Entry::Vacant(entry) => {
                entry.insert(until);
                self.counts[reason as usize] += 1;
                if reason.is_own() {
                    self.view.hold(subject);
                }
            }
            Entry::Occupied(mut entry) => {
                let Some(known) = *entry.get() else { return false };
                if until.is_some_and(|until| until <= known) {
                    return false;
                }
                self.ends.remove(&(known, subject, reason));
                entry.insert(until);
            }
        }
        self.ends.extend(until.map(|until| (until, subject, reason)));
        self.stage_of(subject) != before
    }

    /// Ends a reason, whatever end was known. Says the same as [`Holds::add`].
    pub(crate) fn end(&mut self, subject: Subject, reason: Reason, now: Timestamp) -> bool {
        let before = self.stage_of(subject);
        let Some(until) = self.reasons.remove(&(subject, reason)) else { return false };
        self.counts[reason as usize] -= 1;
        if let Some(until) = until {
            self.ends.remove(&(until, subject, reason));
        }
        if !self.of(subject).any(Reason::is_own) {
            self.view.release(subject, now);
        }
        self.stage_of(subject) != before
    }

    /// The one that ends first. It is ended by [`Holds::end`].
    pub(crate) fn first_end(&self) -> Option<(Timestamp, Subject, Reason)> {
        self.ends.first().copied()
    }

    /// The last stage that the rows of `config` do not pass; `None`: nothing holds them.
    pub(crate) fn stage(&self, config: ConfigId, app: Option<AppId>) -> Option<Stage> {
        Subject::of(config, app).into_iter().filter_map(|subject| self.stage_of(subject)).max()
    }

    fn stage_of(&self, subject: Subject) -> Option<Stage> {
        self.of(subject).map(Reason::stops).max()
    }

    fn of(&self, subject: Subject) -> impl Iterator<Item = Reason> {
        let of_it = self.reasons.range((subject, Reason::FIRST)..=(subject, Reason::LAST));
        of_it.map(|((_, reason), _)| *reason)
    }

    /// Whether anything at all is stopped at this stage.
    pub(crate) fn any(&self, stage: Stage) -> bool {
        Reason::ALL.into_iter().any(|reason| reason.stops() >= stage && self.count(reason) > 0)
    }

    pub(crate) fn has(&self, subject: Subject, reason: Reason) -> bool {
        self.reasons.contains_key(&(subject, reason))
    }

    /// How many subjects are held for this.
    pub(crate) fn count(&self, reason: Reason) -> usize {
        self.counts[reason as usize]
    }

    /// The configs that are held themselves, each once.
    pub(crate) fn configs(&self) -> Vec<ConfigId> {
        let config = |(subject, _): &(Subject, Reason)| match subject {
            Subject::Config(config) => Some(*config),
            Subject::All | Subject::App(_) => None,
        };
        let mut configs: Vec<_> = self.reasons.keys().filter_map(config).collect();
        configs.dedup();
        configs
    }

    pub(crate) fn view(&self) -> &HoldsView {
        &self.view
    }
}

/// What the fetcher holds for reasons of its own, and what it released a moment ago, for those who look from beside: a
/// busy config is held and released many times a second, and after a pause there is much to catch up on.
#[derive(Debug, Clone, Default)]
pub struct HoldsView {
    until: Arc<RwLock<HashMap<Subject, Timestamp>>>,
}

impl HoldsView {
    fn hold(&self, subject: Subject) {
        self.until.write().insert(subject, Timestamp::MAX);
    }

    fn release(&self, subject: Subject, now: Timestamp) {
        self.until.write().insert(subject, now);
    }

    /// Forgets what was released before `since`.
    pub(crate) fn forget(&self, since: Timestamp) {
        self.until.write().retain(|_, until| *until >= since);
    }

    /// Whether rows of `config` are held, or were released since then. Whether it is paused now it says itself.
    pub fn was_held(&self, config: &TaskConfig, since: Timestamp) -> bool {
        let until = self.until.read();
        let subjects = Subject::of(config.id, Some(config.app_id));
        subjects.iter().any(|subject| until.get(subject).is_some_and(|until| *until >= since))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const APP: AppId = AppId::new(1);
    const A: ConfigId = ConfigId::new(1);
    const B: ConfigId = ConfigId::new(2);
    const SUBJECTS: [Subject; 5] = [
        Subject::All,
        Subject::App(APP),
        Subject::App(AppId::new(2)),
        Subject::Config(A),
        Subject::Config(B),
    ];

    const fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    #[derive(Debug, Clone, Copy)]
    enum Op {
        Add(Subject, Reason, Option<i64>),
        End(Subject, Reason),
        /// Time goes on, and what has expired ends.
        Pass(i64),
    }

    fn any_add() -> impl Strategy<Value = (Subject, Reason, Option<i64>)> {
        (select(&SUBJECTS[..]), select(&Reason::ALL[..]), proptest::option::of(0i64..50))
    }

    fn any_op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => any_add().prop_map(|(subject, reason, length)| Op::Add(subject, reason, length)),
            2 => (select(&SUBJECTS[..]), select(&Reason::ALL[..])).prop_map(|(subject, reason)| Op::End(subject, reason)),
            2 => (1i64..30).prop_map(Op::Pass),
        ]
    }

    /// Every hold that there was: since when, and until when it is or was.
    #[derive(Debug, Default)]
    struct Model {
        holds: Vec<(Subject, Reason, Option<Timestamp>)>,
        /// When each subject was last seen held for a reason of the fetcher's own, or released.
        last: BTreeMap<Subject, Timestamp>,
    }

    impl Model {
        fn add(&mut self, subject: Subject, reason: Reason, until: Option<Timestamp>) {
            let known = self.holds.iter_mut().find(|known| (known.0, known.1) == (subject, reason));
            match known {
                None => self.holds.push((subject, reason, until)),
                Some(known) => known.2 = known.2.zip(until).map(|(known, until)| known.max(until)),
            }
        }

        fn end(&mut self, subject: Subject, reason: Reason, now: Timestamp) {
            let known = self.holds.len();
            self.holds.retain(|known| (known.0, known.1) != (subject, reason));
            if self.holds.len() < known {
                self.last.insert(subject, now);
            }
        }

        fn first_end(&self) -> Option<(Timestamp, Subject, Reason)> {
            self.holds.iter().filter_map(|known| Some((known.2?, known.0, known.1))).min()
        }

        fn stage(&self, of: &[Subject]) -> Option<Stage> {
            let of_them = self.holds.iter().filter(|known| of.contains(&known.0));
            of_them.map(|known| if known.1 == Reason::Parked { Stage::Publish } else { Stage::Claim }).max()
        }

        fn see(&mut self, now: Timestamp) {
            let own = self.holds.iter().filter(|known| known.1.is_own());
            self.last.extend(own.map(|known| (known.0, now)));
        }
    }

    fn compare(holds: &Holds, model: &Model, now: Timestamp) -> Result<(), TestCaseError> {
        for (config, app) in [(A, Some(APP)), (B, Some(AppId::new(2))), (A, None)] {
            let subjects = Subject::of(config, app);
            prop_assert_eq!(holds.stage(config, app), model.stage(&subjects));
            let last = subjects.iter().filter_map(|subject| model.last.get(subject)).max();
            let until = holds.view.until.read();
            let was_held = |since| subjects.iter().any(|subject| until.get(subject) >= Some(&since));
            prop_assert!(last.is_none_or(|last| was_held(*last)), "held a moment ago");
            let after = now.plus(tsp_core::Millis::from_ms(1));
            let own = |known: &&(Subject, Reason, _)| subjects.contains(&known.0) && known.1.is_own();
            prop_assert_eq!(was_held(after), model.holds.iter().find(own).is_some());
        }
        for stage in [Stage::Claim, Stage::Publish] {
            prop_assert_eq!(holds.any(stage), model.stage(&SUBJECTS) >= Some(stage));
        }
        for reason in Reason::ALL {
            let held: Vec<_> = SUBJECTS.into_iter().filter(|subject| holds.has(*subject, reason)).collect();
            let count = model.holds.iter().filter(|known| known.1 == reason).count();
            prop_assert_eq!((holds.count(reason), held.len()), (count, count));
        }
        prop_assert_eq!(holds.first_end(), model.first_end());
        let held = |config: &ConfigId| model.stage(&[Subject::Config(*config)]).is_some();
        prop_assert_eq!(holds.configs(), [A, B].into_iter().filter(held).collect::<Vec<_>>());
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn a_subject_is_held_as_long_as_it_has_a_reason(ops in vec(any_op(), 1..60)) {
            let (mut holds, mut model, mut now) = (Holds::default(), Model::default(), at(0));
            for op in ops {
                match op {
                    Op::Add(subject, reason, length) => {
                        let until = length.map(|length| now.plus(tsp_core::Millis::from_ms(length)));
                        let before = model.stage(&[subject]);
                        model.add(subject, reason, until);
                        let changed = holds.add(subject, reason, until);
                        prop_assert_eq!(changed, model.stage(&[subject]) != before);
                        prop_assert!(!holds.add(subject, reason, until), "twice is once");
                    }
                    Op::End(subject, reason) => {
                        let before = model.stage(&[subject]);
                        model.end(subject, reason, now);
                        let changed = holds.end(subject, reason, now);
                        prop_assert_eq!(changed, model.stage(&[subject]) != before);
                        prop_assert!(!holds.end(subject, reason, now), "twice is once");
                    }
                    Op::Pass(length) => {
                        now = now.plus(tsp_core::Millis::from_ms(length));
                        model.see(now);
                        while let Some((_, subject, reason)) = holds.first_end().filter(|end| end.0 <= now) {
                            model.end(subject, reason, now);
                            holds.end(subject, reason, now);
                        }
                    }
                }
                model.see(now);
                compare(&holds, &model, now)?;
            }
        }

        #[test]
        fn the_order_of_reasons_does_not_matter(adds in vec(any_add(), 1..20), turn in 0usize..20) {
            let add = |adds: &[(Subject, Reason, Option<i64>)]| {
                let mut holds = Holds::default();
                for (subject, reason, until) in adds {
                    holds.add(*subject, *reason, until.map(at));
                }
                (holds.reasons, holds.ends, holds.counts)
            };
            let mut turned = adds.clone();
            turned.rotate_left(turn % adds.len());
            prop_assert_eq!(add(&adds), add(&turned));
            turned.reverse();
            prop_assert_eq!(add(&adds), add(&turned));
        }
    }

    #[test]
    fn the_longest_wait_counts() {
        let mut holds = Holds::default();
        let [a, b] = [A, B].map(Subject::Config);
        for (subject, until) in [(a, 30), (b, 20), (a, 10), (b, 40)] {
            holds.add(subject, Reason::Parked, Some(at(until)));
        }
        assert_eq!(holds.first_end(), Some((at(30), a, Reason::Parked)));
        assert!(holds.end(a, Reason::Parked, at(40)));
        assert_eq!((holds.stage(A, None), holds.stage(B, None)), (None, Some(Stage::Publish)));
        assert!(!holds.add(b, Reason::Parked, None), "longer still");
        assert_eq!((holds.first_end(), holds.count(Reason::Parked)), (None, 1));
    }

    #[test]
    fn what_was_released_is_remembered_until_it_is_forgotten() {
        let mut holds = Holds::default();
        let subject = Subject::Config(A);
        for reason in [Reason::Slots, Reason::Parked, Reason::Paused] {
            holds.add(subject, reason, None);
        }
        holds.end(subject, Reason::Slots, at(5));
        let until = |holds: &Holds| holds.view.until.read().get(&subject).copied();
        assert_eq!(until(&holds), Some(Timestamp::MAX), "it is parked");
        holds.end(subject, Reason::Parked, at(7));
        assert_eq!(until(&holds), Some(at(7)), "a pause is not the fetcher's own");
        holds.end(subject, Reason::Paused, at(8));
        holds.view.forget(at(8));
        assert_eq!(until(&holds), Some(at(8)), "its end is");
        holds.view.forget(at(9));
        assert_eq!(until(&holds), None);
    }
}
