//! Brings events to the fetchers of this process: each owns a shard group.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tsp_core::{ConfigId, Name, ShardId, Timestamp};

use crate::inbox::{Feedback, FeedbackSink, Inbox};

/// The inboxes of the shard groups that are owned here. Events for others are skipped: their owners get them.
#[derive(Debug, Default)]
pub struct EventRouter {
    groups: RwLock<HashMap<Name, HashMap<ShardId, Arc<Inbox>>>>,
}

impl EventRouter {
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `inbox` gets what is for this shard group, in place of the one before.
    pub fn register(&self, group: Name, shard: ShardId, inbox: Arc<Inbox>) {
        self.groups.write().entry(group).or_default().insert(shard, inbox);
    }

    /// The shard group is no longer owned here.
    pub fn unregister(&self, group: &Name, shard: ShardId) {
        let mut groups = self.groups.write();
        if let Some(shards) = groups.get_mut(group) {
            shards.remove(&shard);
            if shards.is_empty() {
                groups.remove(group);
            }
        }
    }

    /// Hint: a task of `config` became due at `due_at`.
    pub fn due(&self, group: &Name, config: ConfigId, shard: ShardId, due_at: Timestamp) {
        if let Some(inbox) = self.inbox(group, shard) {
            inbox.due(config, due_at);
        }
    }

    /// Hint: `config` is not what it was. Goes to all, since it may have moved to another group.
    pub fn changed(&self, config: ConfigId) {
        self.each(|inbox| inbox.changed(config));
    }

    /// Hint: what receivers of `config` asked for until `at` is over. Goes to all, as a change does.
    pub fn unparked(&self, config: ConfigId, at: Timestamp) {
        self.each(|inbox| inbox.unparked(config, at));
    }

    /// What workers say of tasks of a group. That all of a config is to wait goes to the other fetchers of the
    /// group as well, since its tasks may be on several shards.
    pub fn feedback(&self, group: &Name, batch: impl IntoIterator<Item = Feedback>) {
        let mut shards: HashMap<ShardId, Vec<Feedback>> = HashMap::new();
        for said in batch {
            if let (Some(length), Some(config)) = (said.park, said.config) {
                for inbox in self.others(group, said.task.shard()) {
                    inbox.parked(config, said.task, length);
                }
            }
            shards.entry(said.task.shard()).or_default().push(said);
        }
        for (shard, batch) in shards {
            if let Some(inbox) = self.inbox(group, shard) {
                inbox.report(batch);
            }
        }
    }

    /// The rows are to be read again, by all.
    pub fn look_again_all(&self) {
        self.each(Inbox::look_again);
    }

    /// A part of the pipe was lost with what it held.
    pub fn pipe_lost_all(&self) {
        self.each(Inbox::pipe_lost);
    }

    /// All take a turn.
    pub fn wake_all(&self) {
        self.each(Inbox::wake);
    }

    pub fn stop_all(&self) {
        self.each(Inbox::stop);
    }

    fn inbox(&self, group: &Name, shard: ShardId) -> Option<Arc<Inbox>> {
        self.groups.read().get(group)?.get(&shard).cloned()
    }

    fn others(&self, group: &Name, shard: ShardId) -> Vec<Arc<Inbox>> {
        let groups = self.groups.read();
        let inboxes = groups.get(group).into_iter().flatten();
        inboxes.filter(|(other, _)| **other != shard).map(|(_, inbox)| inbox.clone()).collect()
    }

    fn each(&self, tell: impl Fn(&Inbox)) {
        // Outside of the lock, since an inbox wakes a thread.
        let inboxes: Vec<_> = self.groups.read().values().flat_map(HashMap::values).cloned().collect();
        for inbox in inboxes {
            tell(&inbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use tsp_core::{Millis, TaskId};

    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_000_000);
    const CONFIG: ConfigId = ConfigId::new(7);

    fn group(name: &str) -> Name {
        Name::group(name).unwrap()
    }

    fn shard(number: u16) -> ShardId {
        ShardId::new(number).unwrap()
    }

    fn feedback(shard: i64) -> Feedback {
        let task = TaskId::new((1 << 22) | (shard << 13) | 1);
        Feedback { task, config: Some(CONFIG), version: 1, due_again: None, awaits_until: None, park: None }
    }

    fn event_router() -> (EventRouter, [Arc<Inbox>; 3]) {
        let event_router = EventRouter::new();
        let inboxes = [("a", 0), ("a", 1), ("b", 0)].map(|(name, number)| {
            let inbox = Arc::new(Inbox::new());
            event_router.register(group(name), shard(number), inbox.clone());
            inbox
        });
        (event_router, inboxes)
    }

    #[test]
    fn hints_go_to_their_shard_group_and_changes_to_all() {
        let (event_router, inboxes) = event_router();
        event_router.due(&group("a"), CONFIG, shard(1), NOW);
        event_router.due(&group("b"), CONFIG, shard(1), NOW);
        event_router.due(&group("c"), CONFIG, shard(0), NOW);
        event_router.changed(CONFIG);
        let received = inboxes.map(|inbox| inbox.drain());
        assert_eq!(received.each_ref().map(|received| received.due.len()), [0, 1, 0]);
        assert!(received.iter().all(|received| received.changed.contains(&CONFIG)));
    }

    #[test]
    fn feedback_goes_by_the_shard_in_the_task_id() {
        let (event_router, inboxes) = event_router();
        let batch = [feedback(0), feedback(1), feedback(2), feedback(1)];
        event_router.feedback(&group("a"), batch);
        let counts = inboxes.map(|inbox| inbox.drain().feedback.len());
        assert_eq!(counts, [1, 2, 0]);
    }

    #[test]
    fn a_wait_of_a_config_goes_to_all_of_its_group_and_its_end_to_all() {
        let (event_router, inboxes) = event_router();
        let long = Millis::from_secs(9);
        let said = |shard, length| Feedback { park: Some(length), ..feedback(shard) };
        event_router.feedback(
            &group("a"),
            [said(1, Millis::from_secs(2)), said(1, long), said(2, Millis::from_secs(3))],
        );
        event_router.unparked(CONFIG, NOW);
        event_router.unparked(CONFIG, Timestamp::ZERO);
        let [first, second, elsewhere] = inboxes.map(|inbox| inbox.drain());
        assert_eq!(first.parks[&CONFIG], (feedback(1).task, long), "the longest");
        assert_eq!((first.feedback.len(), second.feedback.len()), (0, 2));
        assert_eq!(second.parks[&CONFIG].1, Millis::from_secs(3), "of a shard that nobody here owns");
        assert!(elsewhere.parks.is_empty());
        assert!([first, second, elsewhere].iter().all(|received| received.unparked[&CONFIG] == NOW));
    }

    #[test]
    fn a_shard_group_that_was_handed_on_hears_no_more() {
        let (event_router, inboxes) = event_router();
        event_router.unregister(&group("a"), shard(1));
        event_router.unregister(&group("a"), shard(1));
        event_router.due(&group("a"), CONFIG, shard(1), NOW);
        event_router.stop_all();
        assert!(inboxes[1].drain().due.is_empty());
        assert_eq!(inboxes.map(|inbox| inbox.is_stopped()), [true, false, true]);
    }

    #[test]
    fn all_can_be_told_to_look_again() {
        let (event_router, inboxes) = event_router();
        event_router.look_again_all();
        event_router.pipe_lost_all();
        event_router.wake_all();
        let received = inboxes.map(|inbox| inbox.drain());
        assert!(received.iter().all(|received| received.look_again && received.pipe_lost));
    }
}
