//! The ends of every scale: keys, times, sizes, batches.

use std::collections::BTreeSet;

use bytes::Bytes;
use tsp_core::config::OnDuplicateKey;
use tsp_core::outcome::Verdict;
use tsp_core::{Millis, TaskId, Timestamp};
use tsp_store::attempts::{BeginResult, FinishResult, all};
use tsp_store::fetching::ClaimRequest;
use tsp_store::search::{Order, Scope, TaskQuery};
use tsp_store::tasks::{Submit, SubmitOutcome};

use super::fixture::{Fixture, T0, at, key, message, outcome};

fn submit(fixture: &Fixture, config: &tsp_core::config::TaskConfig) -> Submit {
    Submit {
        task: fixture.new_task(config, None, T0),
        on_duplicate: OnDuplicateKey::Ignore,
        own_payload: true,
        idempotency: None,
    }
}

/// Byte for byte: no folding of case, no normal forms, no trimming.
pub(super) async fn keys_are_compared_by_their_bytes(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let long = "k".repeat(200);
    let longest = "订".repeat(66);
    let keys = [
        "order",
        "Order",
        "order ",
        " order",
        "é",
        "e\u{301}",
        "ß",
        "ss",
        "订单/42",
        "a'b\"c",
        "%",
        "_",
        "ı",
        "i",
        "\u{1f600}",
        "x\\",
        &long,
        &longest,
    ];
    let mut ids = BTreeSet::new();
    for text in keys {
        let task = fixture.create(fixture.new_task(&config, Some(text), T0)).await;
        assert_eq!(task.key_slot, 0, "`{text}` is a key of its own");
        ids.insert(task.id);
    }
    assert_eq!(ids.len(), keys.len());
    for text in keys {
        let found = fixture.store.task_by_key(config.id, &key(text)).await.expect("task_by_key");
        assert_eq!(found.and_then(|task| task.key), Some(key(text)));
        let again = fixture.submit(fixture.new_task(&config, Some(text), T0), OnDuplicateKey::Ignore).await;
        assert!(matches!(again, SubmitOutcome::Existing(_)), "`{text}`: {again:?}");
    }
}

/// Long ago, in ten years, and at the ends of what a point in time can be.
pub(super) async fn any_point_in_time_is_stored_and_found(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let ten_years = T0.plus(Millis::from_days(3_653));
    let times =
        [Timestamp::from_ms(i64::MIN), Timestamp::from_ms(-1), Timestamp::ZERO, ten_years, Timestamp::MAX];
    for execute_at in times {
        let task = fixture.create(fixture.new_task(&config, None, execute_at)).await;
        assert_eq!(task.execute_at, execute_at);
        fixture.check_stored(&task).await;
    }
    let query = TaskQuery {
        scope: Scope::Config(config.id),
        key: None,
        statuses: Vec::new(),
        results: Vec::new(),
        due_from: Some(Timestamp::from_ms(i64::MIN)),
        due_to: Some(Timestamp::MAX),
        created_from: Some(Timestamp::from_ms(i64::MIN)),
        created_to: Some(Timestamp::MAX),
        parent: None,
        order: Order::DueAsc,
        after: None,
        limit: 100,
    };
    let page = fixture.store.search(query).await.expect("search");
    assert_eq!(page.tasks.len(), 4, "all but the one that is due at the very end, which is exclusive");
    let request = ClaimRequest { config: config.id, due_by: Timestamp::MAX, limit: 100 };
    let claimed = fixture.store.claim(fixture.owner, vec![request], T0).await.expect("claim");
    let due: Vec<_> = claimed.tasks.iter().map(|task| task.due_at).collect();
    assert_eq!(due, [T0, T0, T0, ten_years, Timestamp::MAX]);
}

/// A megabyte, nothing, and bytes that must come back as they are.
pub(super) async fn payloads_come_back_byte_for_byte(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let big = format!("\"{}\"", "x".repeat(1 << 20));
    let odd = "{\"a\" :\t1.0,\n \"a\": 2, \"ü\": \"\\u0000\"}";
    for payload in [None, Some(Bytes::new()), Some(odd.into()), Some(big.into())] {
        let mut task = fixture.new_task(&config, None, T0);
        task.payload = payload.clone();
        let task = fixture.create(task).await;
        assert_eq!(fixture.stored(task.id).await.payload, payload);
        let begun = fixture.begin(&fixture.claim(&task, T0).await, T0).await;
        assert_eq!(begun.payload, payload);
        fixture.finish(&begun, Verdict::done(), T0).await;
        assert_eq!(fixture.stored(task.id).await.payload, payload, "in history, too");
    }
}

pub(super) async fn empty_batches_do_nothing(fixture: &Fixture) {
    let store = &fixture.store;
    assert!(store.submit(Vec::new(), T0).await.expect("submit").is_empty());
    assert!(all(store.begin(fixture.node, Vec::new(), T0).await).expect("begin").is_empty());
    assert!(all(store.finish(fixture.node, Vec::new(), T0).await).expect("finish").is_empty());
    assert!(store.release(Vec::new(), T0).await.expect("release").is_empty());
    assert!(
        store
            .return_to_scheduled(fixture.owner, Vec::new(), T0)
            .await
            .expect("return_to_scheduled")
            .is_empty()
    );
    assert!(store.mark_worker_lost(fixture.owner, Vec::new(), T0).await.expect("lose").is_empty());
    let claimed = store.claim(fixture.owner, Vec::new(), T0).await.expect("claim");
    assert!(claimed.tasks.is_empty() && !claimed.deposed, "{claimed:?}");
    assert_eq!(store.apply_retention(0, T0).await.expect("prune"), 0);
}

/// A thousand tasks from submit to end, each step one call.
pub(super) async fn batches_of_a_thousand(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let batch: Vec<Submit> = (0..1_000).map(|_| submit(fixture, &config)).collect();
    let ids: Vec<TaskId> = batch.iter().map(|submit| submit.task.id).collect();
    let made = fixture.store.submit(batch, T0).await.expect("submit");
    assert_eq!(made.len(), 1_000);
    let request = ClaimRequest { config: config.id, due_by: T0, limit: 1_000 };
    let claimed = fixture.store.claim(fixture.owner, vec![request], T0).await.expect("claim").tasks;
    assert_eq!(claimed.len(), 1_000);
    let messages = claimed.iter().map(|task| message(task)).collect();
    let begun = all(fixture.store.begin(fixture.node, messages, T0).await).expect("begin");
    let begun: Vec<_> = begun
        .into_iter()
        .map(|begun| match begun {
            BeginResult::Run(task) => task,
            other => panic!("each is claimed and due: {other:?}"),
        })
        .collect();
    assert_eq!(fixture.running(fixture.node).await.len(), 1_000);
    let outcomes = begun.iter().map(|task| outcome(task, Verdict::done())).collect();
    let finished = all(fixture.store.finish(fixture.node, outcomes, at(1)).await).expect("finish");
    assert!(
        finished.iter().all(|finished| matches!(finished, FinishResult::Saved(_))),
        "each attempt is open"
    );
    let audit = fixture.store.audit(at(1)).await.expect("audit");
    assert_eq!((audit.accepted, audit.ended), (1_000, 1_000));
    assert!(fixture.store.task(ids[999]).await.expect("task").is_some_and(|task| !task.is_open()));
}

/// Calls that come together, from many callers.
pub(super) async fn many_callers_at_once(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let calls =
        (0..50).map(|_| fixture.store.submit(vec![submit(fixture, &config), submit(fixture, &config)], T0));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.expect("submit").len(), 2);
    }
    let audit = fixture.store.audit(T0).await.expect("audit");
    assert_eq!(audit.accepted, 100);
    let same = (0..20)
        .map(|_| fixture.submit(fixture.new_task(&config, Some("order-42"), T0), OnDuplicateKey::Ignore));
    let answers = futures::future::join_all(same).await;
    let created = answers.iter().filter(|answer| matches!(answer, SubmitOutcome::Created(_))).count();
    assert_eq!(created, 1, "one key, one task: {answers:?}");
}
