//! Schedules: each slot exactly once, nothing from the past, and the policies as they are written.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tsp_core::{Millis, Timestamp};

use crate::harness::ledger::check_slots;
use crate::harness::{APP, Arrival, Gate, Reply, Scene, now, past, seldom, time};

fn every_second() -> Value {
    json!({ "type": "every", "interval": "1s" })
}

fn at_every_second() -> Value {
    json!({ "type": "cron", "expr": "* * * * * ?", "dialect": "quartz", "timezone": "UTC" })
}

/// Each slot, however late it is looked at and whatever runs beside it.
fn without_gaps(mut schedule: Value) -> Value {
    schedule["misfire"] = json!({ "policy": "fire_all", "max": 100, "grace": "1h" });
    schedule["overlap"] = json!("allow");
    schedule
}

/// What came to `path`, once it is a slot at or after `end` and all slots between that and the first: they may
/// overtake each other on their ways.
async fn without_a_gap(scene: &Scene, path: &str, end: Timestamp) -> Vec<Arrival> {
    let wanted = path.to_owned();
    let whole = move |all: &[Arrival]| {
        let of_path = all.iter().filter(|one| one.path == wanted);
        let slots: BTreeSet<_> = of_path.map(Arrival::execute_at).collect();
        let (Some(first), Some(last)) = (slots.first(), slots.last()) else { return false };
        *last >= end && i64::try_from(slots.len()) == Ok(last.since(*first).ms() / 1_000 + 1)
    };
    scene.receiver.until(format!("each slot at `{path}` up to {end}"), whole).await;
    scene.receiver.at(path)
}

/// How often each slot was called, in order.
fn slots(arrivals: &[Arrival]) -> BTreeMap<Timestamp, usize> {
    let mut slots = BTreeMap::new();
    for arrival in arrivals {
        *slots.entry(arrival.execute_at()).or_default() += 1;
    }
    slots
}

fn path_of(name: &str) -> String {
    format!("/apps/{APP}/configs/{name}")
}

#[tokio::test]
async fn both_forms_fire_on_the_second_and_each_slot_once() {
    let scene = Scene::new().await;
    scene.cron("every", &without_gaps(every_second()), |config| config).await;
    scene.cron("cron", &without_gaps(at_every_second()), |config| config).await;
    let end = now().plus(Millis::from_secs(3));
    for name in ["every", "cron"] {
        let arrivals = without_a_gap(&scene, &format!("/{name}"), end).await;
        let slots = slots(&arrivals);
        assert!(slots.values().all(|times| *times == 1), "{name}: {slots:?}");
        for arrival in &arrivals {
            assert_eq!(arrival.execute_at().ms() % 1_000, 0);
            assert!(arrival.lateness_ms() >= 0, "{name}: {} ms early", -arrival.lateness_ms());
        }
    }
}

#[tokio::test]
async fn a_kill_around_the_fire_time_neither_loses_nor_doubles_a_slot() {
    let mut scene = Scene::new().await;
    for (name, schedule) in [("every", every_second()), ("cron", at_every_second())] {
        scene.cron(name, &without_gaps(schedule), |config| config).await;
    }
    // Before, at and after the second, in steps that meet the fire, the claim and the call.
    for offset in [-600, -250, -60, -10, 0, 5, 15, 60] {
        let seen = scene.receiver.count();
        scene.receiver.nth(seen + 2).await;
        let second = (now().ms() / 1_000 + 2) * 1_000;
        past(Timestamp::from_ms(second + offset)).await;
        scene.tsp.kill9().await;
        scene.tsp.restart().await;
    }
    let end = now().plus(Millis::from_secs(2));
    for name in ["every", "cron"] {
        without_a_gap(&scene, &format!("/{name}"), end).await;
    }
    scene.tsp.stop().await;
    for name in ["every", "cron"] {
        let mut arrivals = scene.receiver.at(&format!("/{name}"));
        arrivals.retain(|one| one.execute_at() <= end);
        check_slots(name, &arrivals);
    }
}

#[tokio::test]
async fn enabling_resuming_and_editing_never_fire_the_past() {
    let scene = Scene::new().await;
    scene.cron("tick", &without_gaps(every_second()), |config| config).await;
    for (off, on) in [("disable", "enable"), ("pause", "resume")] {
        let count = scene.receiver.count();
        let last = scene.receiver.nth(count + 1).await.execute_at();
        // Between two slots, when the next one is already close.
        past(last.plus(Millis::from_ms(400))).await;
        scene.api.act(&format!("{}/{off}", path_of("tick"))).await.expect(200);
        let from = now();
        past(from.plus(Millis::from_ms(3_200))).await;
        let before = scene.receiver.count();
        let resumed_at = now();
        scene.api.act(&format!("{}/{on}", path_of("tick"))).await.expect(200);
        scene.receiver.nth(before + 2).await;
        for arrival in &scene.receiver.arrivals()[before..] {
            let slot = arrival.execute_at();
            let between = slot > from && slot < resumed_at;
            assert!(!between, "{on} at {resumed_at} fired {slot}, {off}d from {from}");
        }
    }
    let edited_at = now();
    let hourly = json!({ "schedule": { "type": "every", "interval": "1h" } });
    scene.api.patch(&path_of("tick"), &hourly).await.expect(200);
    let next = scene.api.get(&path_of("tick")).await.expect(200);
    let next = time(next["next_fire_at"].as_str().expect("an enabled schedule has a next fire"));
    assert!(next > edited_at && next.ms() % 3_600_000 == 0, "{next}");
}

#[tokio::test]
async fn a_new_schedule_does_not_fire_what_lies_before_it() {
    let scene = Scene::new().await;
    let made_at = now();
    let mut schedule = every_second();
    schedule["misfire"] = json!({ "policy": "fire_all", "max": 100, "grace": "1h" });
    schedule["anchor"] = json!(made_at.minus(Millis::from_days(1)).to_string());
    scene.cron("new", &schedule, |config| config).await;
    assert!(scene.receiver.nth(1).await.execute_at() >= made_at);
}

/// An outage over several slots.
struct Outage {
    /// The slots that had passed when the schedule was looked at again, oldest first. At least those
    /// of the outage; more of them when the start took long.
    missed: Vec<Timestamp>,
    /// Those of them that were called after all.
    called: Vec<Timestamp>,
    decided_at: Timestamp,
}

async fn outage(misfire: Value, slots: i64) -> Outage {
    let mut scene = Scene::new().await;
    let mut schedule = every_second();
    schedule["misfire"] = misfire;
    schedule["overlap"] = json!("allow");
    scene.cron("tick", &schedule, |config| config).await;
    scene.receiver.nth(1).await;
    scene.tsp.stop().await;
    let first_missed = (now().ms() / 1_000 + 1) * 1_000;
    let last_missed = first_missed + (slots - 1) * 1_000;
    past(Timestamp::from_ms(last_missed + 150)).await;
    scene.tsp.restart().await;
    // Two slots after the start: by then the missed ones have been decided on.
    let end = now().plus(Millis::from_secs(2));
    let after = move |all: &[Arrival]| all.iter().any(|one| one.execute_at() >= end);
    let mut all = scene.receiver.until("the slots after the outage".to_owned(), after).await;
    all.retain(|one| one.execute_at().ms() >= first_missed);
    // All are due at once, and overtake each other on their ways.
    all.sort_by_key(Arrival::execute_at);
    // The first step after the start decides on all that had passed, and is when they were made.
    let first = scene.api.task(all[0].task()).await;
    let decided_at = time(first["created_at"].as_str().expect("a task has been made"));
    let newest = decided_at.ms().max(last_missed);
    let missed: Vec<_> = (first_missed..=newest).step_by(1_000).map(Timestamp::from_ms).collect();
    let called = all.iter().map(Arrival::execute_at).filter(|slot| missed.contains(slot)).collect();
    println!("missed {missed:?}, called {called:?}, decided at {decided_at}");
    Outage { missed, called, decided_at }
}

#[tokio::test]
async fn fire_once_makes_only_the_newest_missed_slot() {
    let outage = outage(json!({ "policy": "fire_once", "grace": "1h" }), 3).await;
    assert_eq!(outage.called, outage.missed[outage.missed.len() - 1..]);
}

#[tokio::test]
async fn fire_all_makes_each_up_to_its_limit() {
    let all = outage(json!({ "policy": "fire_all", "max": 100, "grace": "1h" }), 4).await;
    assert_eq!(all.called, all.missed);
    let two = outage(json!({ "policy": "fire_all", "max": 2, "grace": "1h" }), 5).await;
    assert_eq!(two.called, two.missed[two.missed.len() - 2..]);
}

#[tokio::test]
async fn skip_drops_what_is_older_than_its_grace() {
    let outage = outage(json!({ "policy": "skip", "grace": "100ms" }), 3).await;
    for slot in outage.called {
        assert!(outage.decided_at.since(slot) <= Millis::from_ms(100), "{slot} at {}", outage.decided_at);
    }
}

/// A slot that came so long before something has been looked at by then, also on a machine that stands still for a
/// while.
const LOOKED_AT: Millis = Millis::from_secs(2);

/// A first occurrence that was open for four slots.
struct HeldOccurrence {
    /// Those that were called after it, in order.
    slots: Vec<Timestamp>,
    /// How many of them were called while it was open.
    beside: usize,
    opened: Timestamp,
}

async fn held(overlap: &str) -> HeldOccurrence {
    let scene = Scene::new().await;
    let gate = Gate::closed();
    scene.receiver.script("/tick", vec![Reply::ok().after(&gate), Reply::ok()]);
    let mut schedule = every_second();
    schedule["overlap"] = json!(overlap);
    scene.cron("tick", &schedule, |config| config).await;
    let first = scene.receiver.nth(1).await;
    past(first.execute_at().plus(Millis::from_ms(4_300))).await;
    let (beside, opened) = (scene.receiver.count() - 1, now());
    gate.open();
    let end = opened.plus(Millis::from_ms(1_500));
    let all = scene
        .receiver
        .until("the slots after".to_owned(), move |all| all.iter().any(|one| one.execute_at() > end))
        .await;
    let mut slots: Vec<_> = all[1..].iter().map(Arrival::execute_at).collect();
    slots.sort();
    HeldOccurrence { slots, beside, opened }
}

#[tokio::test]
async fn overlap_skip_passes_over_slots_while_one_is_open() {
    let HeldOccurrence { slots, beside, opened } = held("skip").await;
    let passed: Vec<_> = slots.iter().filter(|slot| slot.plus(LOOKED_AT) < opened).collect();
    assert!(beside == 0 && passed.is_empty(), "{slots:?} were called; an occurrence was open until {opened}");
}

#[tokio::test]
async fn overlap_allow_calls_every_slot() {
    let scene = Scene::new().await;
    let gate = Gate::closed();
    scene.receiver.script("/tick", vec![Reply::ok().after(&gate), Reply::ok()]);
    scene.cron("tick", &without_gaps(every_second()), |config| config).await;
    let first = scene.receiver.nth(1).await;
    without_a_gap(&scene, "/tick", first.execute_at().plus(Millis::from_secs(3))).await;
    gate.open();
}

#[tokio::test]
async fn overlap_queue_one_makes_up_for_one_slot() {
    let HeldOccurrence { slots, beside, opened } = held("queue_one").await;
    let waited: Vec<_> = slots.iter().filter(|slot| **slot < opened).collect();
    let good = match waited[..] {
        [_] => true,
        // This one was looked at after the open one had ended.
        [_, late] => late.plus(LOOKED_AT) > opened,
        _ => false,
    };
    assert!(beside == 0 && good, "one waits and runs when the open one has ended: {waited:?}");
}

#[tokio::test]
async fn a_run_by_hand_answers_as_a_submit_and_leaves_the_schedule_alone() {
    let scene = Scene::new().await;
    scene.cron("nightly", &seldom(), |config| config.set("payload", json!({ "by": "schedule" }))).await;
    let path = path_of("nightly");
    let before = scene.api.get(&path).await.expect(200)["next_fire_at"].clone();
    let run = scene.api.post(&format!("{path}/run"), &json!({ "payload": { "by": "hand" } })).await;
    let run = run.expect(201);
    let arrival = scene.receiver.nth(1).await;
    assert_eq!(run["task"]["id"], arrival.task());
    assert_eq!(serde_json::from_slice::<Value>(&arrival.body).unwrap(), json!({ "by": "hand" }));
    assert_eq!(scene.api.get(&path).await.expect(200)["next_fire_at"], before);
    let task = json!({ "config": "nightly" });
    scene.api.post(&format!("/apps/{APP}/tasks"), &task).await.refused(409, "wrong_kind");
}

#[tokio::test]
async fn fires_and_preview_agree_and_know_daylight_saving() {
    let scene = Scene::new().await;
    let schedule = json!({ "type": "cron", "expr": "0 30 2 * * ?", "timezone": "Europe/Berlin" });
    scene.cron("nightly", &schedule, |config| config).await;
    let from = "2027-03-26T00:00:00Z";
    let path = format!("{}/fires?count=5&from={from}", path_of("nightly"));
    let fires = scene.api.get(&path).await.expect(200);
    let preview = json!({ "schedule": schedule, "count": 5, "from": from });
    let preview = scene.api.post("/schedules/preview", &preview).await.expect(200);
    assert_eq!(fires["items"], preview["items"]);
    let items = fires["items"].as_array().expect("fires have items");
    assert_eq!(items.len(), 5, "{fires:#}");
    assert!(items.iter().any(|item| item["note"].is_string()), "02:30 does not exist on March 28: {fires:#}");
}
