//! The messages that a worker holds and has not begun.

use std::collections::{BTreeMap, VecDeque};

use tsp_core::ids::IdMap;
use tsp_core::task::Task;
use tsp_core::{ConfigId, TaskId, Timestamp};
use tsp_queue::Ticket;

use crate::permits::Permits;

/// A message with its config known.
#[derive(Debug)]
pub struct Item {
    pub id: TaskId,
    pub version: i64,
    pub config: ConfigId,
    pub ticket: Ticket,
    /// The row as claimed, while it is with the message.
    pub row: Option<Box<Task>>,
    /// Begins of it that failed.
    pub tries: u32,
}

/// Messages wait here for a permit of their config, or for their time. A config without a free permit
/// blocks nobody: its messages stand aside. The queue's bound bounds this too.
#[derive(Debug, Default)]
pub struct Intake {
    waiting: IdMap<ConfigId, VecDeque<Item>>,
    /// Whose turn it is among the configs that wait.
    turns: VecDeque<ConfigId>,
    early: BTreeMap<(Timestamp, Ticket), Item>,
    /// Those in `waiting`.
    count: usize,
}

impl Intake {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.early.is_empty()
    }

    pub fn len(&self) -> usize {
        self.count + self.early.len()
    }

    /// Ask for this one again at `at`.
    pub fn put_early(&mut self, at: Timestamp, item: Item) {
        self.early.insert((at, item.ticket), item);
    }

    /// The next time at which an early message is to be asked for again.
    pub fn next_early(&self) -> Option<Timestamp> {
        self.early.first_key_value().map(|((at, _), _)| *at)
    }

    /// Moves messages to `batch` as long as there are permits: those whose time has come, then one from
    /// each waiting config in turn.
    pub fn pick(&mut self, permits: &Permits, most: usize, now: Timestamp, batch: &mut Vec<Item>) {
        while let Some(entry) = self.early.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let item = entry.remove();
            self.offer(permits, most, item, batch);
        }
        let mut blocked = 0;
        while batch.len() < most && blocked < self.turns.len() {
            let Some(config) = self.turns.pop_front() else { break };
            if !permits.try_take(config) {
                blocked += 1;
                self.turns.push_back(config);
                continue;
            }
            let Some(queue) = self.waiting.get_mut(&config) else {
                permits.put_back(config);
                continue;
            };
            self.count -= 1;
            batch.extend(queue.pop_front());
            if queue.is_empty() {
                self.waiting.remove(&config);
            } else {
                self.turns.push_back(config);
            }
        }
    }

    /// A message that just came: into `batch` if there is a permit, else it waits behind its config's.
    pub fn offer(&mut self, permits: &Permits, most: usize, item: Item, batch: &mut Vec<Item>) {
        let first = !self.waiting.contains_key(&item.config);
        if first && batch.len() < most && permits.try_take(item.config) {
            batch.push(item);
            return;
        }
        if first {
            self.turns.push_back(item.config);
        }
        self.count += 1;
        self.waiting.entry(item.config).or_default().push_back(item);
    }

    /// Everything, for the way back at a graceful stop.
    pub fn drain(&mut self) -> Vec<Item> {
        self.count = 0;
        let turns = std::mem::take(&mut self.turns).into_iter();
        let waiting: Vec<_> = turns.filter_map(|config| self.waiting.remove(&config)).flatten().collect();
        let early = std::mem::take(&mut self.early).into_values();
        waiting.into_iter().chain(early).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_000);

    fn item(config: i64, ticket: u64) -> Item {
        let ticket = Ticket(ticket);
        Item { id: TaskId::new(1), version: 1, config: ConfigId::new(config), ticket, row: None, tries: 0 }
    }

    fn tickets(batch: &[Item]) -> Vec<u64> {
        batch.iter().map(|item| item.ticket.0).collect()
    }

    #[test]
    fn a_blocked_config_lets_others_pass_and_keeps_its_order() {
        let (permits, mut intake) = (Permits::new(10, 1), Intake::default());
        let mut batch = Vec::new();
        for (config, ticket) in [(1, 1), (1, 2), (1, 3), (2, 4)] {
            intake.offer(&permits, 8, item(config, ticket), &mut batch);
        }
        assert_eq!(tickets(&batch), [1, 4]);
        permits.put_back(ConfigId::new(1));
        batch.clear();
        intake.pick(&permits, 8, NOW, &mut batch);
        assert_eq!(tickets(&batch), [2]);
        intake.pick(&permits, 8, NOW, &mut batch);
        assert_eq!(tickets(&batch), [2], "no permit, no message");
        assert_eq!(tickets(&intake.drain()), [3]);
    }

    #[test]
    fn waiting_configs_take_turns() {
        let (permits, mut intake) = (Permits::new(2, 2), Intake::default());
        let mut batch = Vec::new();
        assert!(permits.try_take(ConfigId::new(9)) && permits.try_take(ConfigId::new(9)));
        for (config, ticket) in [(1, 1), (1, 2), (2, 3)] {
            intake.offer(&permits, 8, item(config, ticket), &mut batch);
        }
        permits.put_back(ConfigId::new(9));
        permits.put_back(ConfigId::new(9));
        intake.pick(&permits, 8, NOW, &mut batch);
        assert_eq!(tickets(&batch), [1, 3]);
    }

    #[test]
    fn early_ones_come_at_their_time() {
        let (permits, mut intake) = (Permits::new(2, 2), Intake::default());
        let mut batch = Vec::new();
        let later = Timestamp::from_ms(1_500);
        intake.put_early(later, item(1, 1));
        intake.pick(&permits, 8, NOW, &mut batch);
        assert!(batch.is_empty());
        assert_eq!(intake.next_early(), Some(later));
        intake.pick(&permits, 8, later, &mut batch);
        assert_eq!(tickets(&batch), [1]);
        assert!(intake.is_empty());
    }
}
