//! What becomes of tasks with and without keys, at home and away from it.

use proptest::prelude::*;

use super::fixtures::*;
use super::submit::{Clash, ReopenRefusal, SubmitRefusal, admit, clash, is_repeated, reopen};
use super::*;
use crate::config::{ConfigSpec, HttpTarget, OnDuplicateKey, TaskConfig};
use crate::ids::{AppId, ConfigId, ShardId, TaskId};
use crate::name::Name;
use crate::task_key::{TaskKey, config_shard, is_home};

const SHARDS: u16 = 16;
const POLICIES: [OnDuplicateKey; 3] = [OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add];

fn config(span: u16, enabled: bool) -> TaskConfig {
    let name = |text| Name::new(text).unwrap();
    let spec = ConfigSpec::new(name("close-order"), HttpTarget::post("http://receiver.internal/"));
    TaskConfig {
        id: ConfigId::new(1),
        app_id: AppId::new(1),
        app: name("trade"),
        spec: ConfigSpec { span, enabled, ..spec },
        paused: None,
        version: 1,
        created_at: NOW,
        updated_at: NOW,
    }
}

fn key() -> TaskKey {
    TaskKey::new("order-42").unwrap()
}

fn keyed(task: Task) -> Task {
    Task { key: Some(key()), ..task }
}

/// A task of this shard.
fn on(shard: u16, task: Task) -> Task {
    Task { id: TaskId::new(TaskId::first_at(NOW).get() + (i64::from(shard) << 13) + 7), ..task }
}

/// With the default span of 1 all are at home there.
fn home() -> u16 {
    config_shard(ConfigId::new(1), SHARDS).get()
}

#[test]
fn a_config_takes_tasks_at_home_while_it_is_enabled() {
    for task in [scheduled(), keyed(scheduled())] {
        let (at_home, away) = (on(home(), task.clone()), on((home() + 1) % SHARDS, task));
        for promised in [false, true] {
            let admit = |task: &Task, config: Option<&TaskConfig>| admit(task, config, SHARDS, promised);
            assert_eq!(admit(&at_home, Some(&config(1, true))), Ok(0));
            assert_eq!(admit(&at_home, Some(&config(1, false))), Err(SubmitRefusal::ConfigDisabled));
            assert_eq!(admit(&away, Some(&config(1, false))), Err(SubmitRefusal::ConfigDisabled));
            assert_eq!(admit(&away, None), Err(SubmitRefusal::ConfigGone));
        }
        assert_eq!(admit(&away, Some(&config(1, true)), SHARDS, false), Err(SubmitRefusal::NotAtHome));
        assert_eq!(admit(&away, Some(&config(1, true)), SHARDS, true), Ok(away.id.get()), "beside");
    }
}

#[test]
fn an_id_is_repeated_with_its_config_and_key() {
    let task = keyed(scheduled());
    assert!(is_repeated(&task, &keyed(ended())), "whatever became of it");
    assert!(!is_repeated(&task, &scheduled()));
    assert!(!is_repeated(&task, &Task { config: ConfigId::new(2), ..keyed(scheduled()) }));
}

#[test]
fn add_stands_beside_whoever_holds_the_key() {
    let task = keyed(scheduled());
    for holder in [None, Some(keyed(queued()))] {
        let decided = clash(&task, OnDuplicateKey::Add, true, holder, NOW);
        assert_eq!(decided, Clash::Insert { key_slot: task.id.get() });
    }
}

#[test]
fn a_key_that_nobody_holds_any_more_is_tried_again() {
    for key_slot in [0, 42] {
        let task = Task { key_slot, ..keyed(scheduled()) };
        for policy in [OnDuplicateKey::Ignore, OnDuplicateKey::Reset] {
            assert_eq!(clash(&task, policy, true, None, NOW), Clash::Insert { key_slot });
        }
        let ended = clash(&task, OnDuplicateKey::Reset, true, Some(keyed(ended())), NOW);
        assert_eq!(ended, Clash::Insert { key_slot }, "an ended task holds nothing");
    }
}

#[test]
fn an_open_holder_is_the_answer_or_takes_the_new_time() {
    let new =
        Task { execute_at: after(300), payload: Some(Bytes::from_static(b"[2]")), ..keyed(scheduled()) };
    for holder in each_state().into_iter().filter(Task::is_open) {
        let existing = clash(&new, OnDuplicateKey::Ignore, true, Some(holder.clone()), NOW);
        assert_eq!(existing, Clash::Existing(Box::new(holder.clone())), "unchanged");
        for own_payload in [false, true] {
            let payload = new.payload.clone().filter(|_| own_payload);
            let change = go(&holder, &Event::Reset { execute_at: after(300), payload }, NOW);
            let reset = clash(&new, OnDuplicateKey::Reset, own_payload, Some(holder.clone()), NOW);
            assert_eq!(reset, Clash::Reset(Box::new(change)), "at {:?}", holder.status);
        }
    }
}

proptest! {
    #[test]
    fn there_is_one_canonical_task_of_a_key(shard in 0..SHARDS, span in 0..=SHARDS, promised: bool, held: bool) {
        let shard = ShardId::new(shard).unwrap();
        let at_home = is_home(ConfigId::new(1), Some(&key()), span, SHARDS, shard);
        let new = on(shard.get(), keyed(scheduled()));
        if let Ok(key_slot) = admit(&new, Some(&config(span, true)), SHARDS, promised) {
            prop_assert_eq!(key_slot == 0, at_home, "the canonical one is at home");
            let new = Task { key_slot, ..new };
            for policy in POLICIES {
                let holder = held.then(|| keyed(queued()));
                if let Clash::Insert { key_slot: again } = clash(&new, policy, true, holder, NOW) {
                    prop_assert!(again != 0 || (at_home && !held), "{policy:?} makes a second one");
                }
            }
        }
    }

    #[test]
    fn a_task_opens_again_as_canonical_only_at_home_and_if_nobody_else_is(
        shard in 0..SHARDS, span in 0..=SHARDS, beside: bool, has_key: bool, held: bool,
    ) {
        let shard = ShardId::new(shard).unwrap();
        let ended = on(shard.get(), if has_key { keyed(ended()) } else { ended() });
        let ended = Task { key_slot: if beside { ended.id.get() } else { 0 }, ..ended };
        let holder = held.then_some(TaskId::new(9));
        let canonical = has_key && !beside;
        let at_home = is_home(ConfigId::new(1), Some(&key()), span, SHARDS, shard);
        let expected = match (canonical, at_home, holder) {
            (true, true, Some(holder)) => Err(ReopenRefusal::KeyInUse { holder }),
            (true, true, None) => Ok(0),
            (true, false, _) => Ok(ended.id.get()),
            (false, ..) => Ok(ended.key_slot),
        };
        prop_assert_eq!(reopen(&ended, Some(&config(span, true)), SHARDS, holder), expected);
        let disabled = config(span, false);
        prop_assert_eq!(reopen(&ended, Some(&disabled), SHARDS, holder), Err(ReopenRefusal::ConfigDisabled));
        prop_assert_eq!(reopen(&ended, None, SHARDS, holder), Err(ReopenRefusal::ConfigGone));
    }
}
