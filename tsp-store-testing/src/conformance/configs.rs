//! Configs: versions, holds, and what the config cache shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tsp_core::config::{ConfigSpec, HttpTarget, Kind, Secret, Target, TargetTls, Visibility};
use tsp_core::retry::Backoff;
use tsp_core::schedule::{CronSpec, Misfire, MisfirePolicy, Overlap, Schedule, Trigger};
use tsp_core::{AppId, ConfigId, Millis, Timestamp};
use tsp_store::catalog::{ConfigSaved, DeleteResult, ExpectedVersion, Hold, SaveConfig};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::TaskCommand;

use super::fixture::{Fixture, T0, at, by, cron_spec, name, spec};

/// As written, with its first version, in the config cache at once.
pub(super) async fn a_new_config_is_in_the_config_cache(fixture: &Fixture) {
    let seq = fixture.store.config_cache().seq();
    let saved = fixture.save_config(spec("close-order"), ExpectedVersion::Absent, at(3)).await;
    let ConfigSaved::Created(config) = saved else { panic!("a new config must be created: {saved:?}") };
    assert_eq!((config.version, config.app_id, config.app.as_str()), (1, fixture.app, "trade"));
    assert_eq!((config.created_at, config.updated_at, &config.paused), (at(3), at(3), &None));
    assert_eq!(config.spec, spec("close-order"));
    let config_cache = fixture.store.config_cache();
    assert_eq!(config_cache.config(config.id), Some(config.clone()));
    assert_eq!(config_cache.find_config(fixture.app, &name("close-order")), Some(config));
    assert!(config_cache.seq() > seq, "each change of a config has the next number");
}

/// Every field of a spec survives a replacement of everything by something else.
pub(super) async fn every_field_is_kept(fixture: &Fixture) {
    let mut full = cron_spec("nightly");
    let cron = CronSpec::parse("0 30 2 ? * MON-FRI", None, "Asia/Shanghai").expect("a good expression");
    full.schedule = Some(Schedule {
        start_at: Some(T0),
        end_at: Some(at(1_000_000)),
        misfire: Misfire { policy: MisfirePolicy::FireAll { max: 7 }, grace: Millis::from_mins(3) },
        overlap: Overlap::QueueOne,
        ..Schedule::new(Trigger::Cron(cron))
    });
    full.target = Target::Http(Arc::new(HttpTarget {
        method: "PUT".to_owned(),
        url: "https://例え.jp/x?y=1".to_owned(),
        headers: BTreeMap::from([("A".to_owned(), "ü".to_owned())]),
        secret_headers: BTreeMap::from([("Authorization".to_owned(), Secret::new("Bearer 1"))]),
        tls: Some(TargetTls {
            ca: Some("a certificate".to_owned()),
            cert: Some("another".to_owned()),
            key: Some(Secret::new("a private key")),
        }),
    }));
    full.retry.backoff =
        Backoff::Exponential { initial: Millis::from_ms(1), factor: 1.5, max: Millis::from_days(1) };
    full.retry.max_age = Some(Millis::from_days(2));
    full.retry.jitter = 0.25;
    full.payload = Some(Bytes::from_static(b"{\"a\" :  1}"));
    full.priority = 4;
    full.queue = name("slow");
    full.group = name("batch");
    full.expire_after = Some(Millis::from_secs(9));
    full.visibility = Visibility::Public;
    full.signing_secrets = vec![Secret::new("whsec_new"), Secret::new("whsec_old")];
    full.asynchronous.enabled = false;
    let config = fixture.config_of(full.clone()).await;
    assert_eq!(config.spec, full);
    fixture.save_config(cron_spec("nightly"), ExpectedVersion::Any, T0).await;
    assert_eq!(
        fixture.store.config_cache().config(config.id).expect("it is there").spec,
        cron_spec("nightly")
    );
    fixture.save_config(full.clone(), ExpectedVersion::Any, T0).await;
    assert_eq!(fixture.store.config_cache().config(config.id).expect("it is there").spec, full);
}

/// What must be true of the stored one (`If-Match`).
pub(super) async fn a_save_is_made_only_of_the_expected_version(fixture: &Fixture) {
    let missing = fixture.save_config(spec("close-order"), ExpectedVersion::Version(1), T0).await;
    assert_eq!(missing, ConfigSaved::NotFound);
    let config = fixture.config("close-order").await;
    let again = fixture.save_config(spec("close-order"), ExpectedVersion::Absent, T0).await;
    assert_eq!(again, ConfigSaved::AlreadyExists);
    let changed = || {
        let mut spec = spec("close-order");
        "changed".clone_into(&mut spec.description);
        spec
    };
    let stale = fixture.save_config(changed(), ExpectedVersion::Version(9), T0).await;
    assert_eq!(stale, ConfigSaved::VersionMismatch { version: 1 });
    assert_eq!(
        fixture.store.config_cache().config(config.id),
        Some(config.clone()),
        "a refused save changes nothing"
    );
    for (expected, version) in [(ExpectedVersion::Version(1), 2), (ExpectedVersion::Any, 3)] {
        let saved = fixture.save_config(changed(), expected, at(5)).await;
        let ConfigSaved::Updated(updated) = saved else { panic!("{expected:?} holds: {saved:?}") };
        assert_eq!((updated.id, updated.version, updated.updated_at), (config.id, version, at(5)));
        assert_eq!((updated.created_at, updated.spec.description.as_str()), (T0, "changed"));
        assert_eq!(fixture.store.config_cache().config(config.id), Some(updated));
    }
}

pub(super) async fn a_kind_never_changes(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let saved = fixture.save_config(cron_spec("close-order"), ExpectedVersion::Any, T0).await;
    assert_eq!(saved, ConfigSaved::KindChanged);
    assert_eq!(
        fixture.store.config_cache().config(config.id).map(|config| config.spec.kind),
        Some(Kind::Delayed)
    );
    assert!(fixture.store.cursors().await.expect("cursors").is_empty());
}

/// In an app that is not there nothing is saved.
pub(super) async fn an_unknown_app_or_config_is_not_found(fixture: &Fixture) {
    let save = SaveConfig { app: AppId::new(999), spec: spec("close-order"), expected: ExpectedVersion::Any };
    let saved = fixture.store.save_config(save, None, &by(), T0).await.expect("save_config");
    assert_eq!(saved, IdempotencyResult::Fresh(ConfigSaved::NotFound));
    let nobody = ConfigId::new(999);
    let held = fixture.store.hold_config(nobody, Hold::Resume, &by(), T0).await.expect("hold_config");
    assert_eq!(held, ConfigSaved::NotFound);
    let deleted =
        fixture.store.delete_config(nobody, ExpectedVersion::Any, &by(), T0).await.expect("delete_config");
    assert_eq!(deleted, DeleteResult::NotFound);
}

/// Each hold is a change: the version rises, and who paused it when and why is kept.
pub(super) async fn holding_and_letting_go_are_changes(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let note = Some("receiver is down — 停".to_owned());
    let hold = async |hold, now: Timestamp| {
        let saved = fixture.store.hold_config(config.id, hold, &by(), now).await.expect("hold_config");
        let ConfigSaved::Updated(saved) = saved else { panic!("a hold must update the config: {saved:?}") };
        assert_eq!(
            fixture.store.config_cache().config(config.id),
            Some(saved.clone()),
            "in the config cache before the answer"
        );
        saved
    };
    let paused = hold(Hold::Pause { note: note.clone() }, at(1)).await;
    assert!(!paused.runnable());
    let by_whom = paused.paused.clone().expect("it is paused");
    assert_eq!((by_whom.by, by_whom.at, by_whom.note), (by().0, at(1), note));
    assert_eq!((paused.version, paused.updated_at), (2, at(1)));
    // A replacement of the spec does not release it.
    let saved = fixture.save_config(spec("close-order"), ExpectedVersion::Any, at(2)).await;
    assert!(matches!(&saved, ConfigSaved::Updated(config) if config.paused.is_some()), "{saved:?}");
    let resumed = hold(Hold::Resume, at(3)).await;
    assert_eq!((resumed.version, &resumed.paused), (4, &None));
    let disabled = hold(Hold::Disable, at(4)).await;
    assert!(!disabled.spec.enabled && !disabled.runnable());
    let enabled = hold(Hold::Enable, at(5)).await;
    assert!(enabled.runnable());
    assert_eq!((enabled.version, &enabled.spec), (6, &config.spec));
}

/// Not while open tasks are left; ended ones do not hinder.
pub(super) async fn a_config_with_open_tasks_is_not_deleted(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    fixture.one_in_each_state(&config).await;
    let delete = async |expected| {
        fixture.store.delete_config(config.id, expected, &by(), T0).await.expect("delete_config")
    };
    assert_eq!(delete(ExpectedVersion::Any).await, DeleteResult::InUse(5));
    let open = fixture.store.cancel_open(config.id, 100, &by(), T0).await.expect("cancel_open");
    assert_eq!(open.left, 1, "one is executing");
    assert_eq!(delete(ExpectedVersion::Any).await, DeleteResult::InUse(1));
    let running = fixture.running(fixture.node).await;
    fixture
        .store
        .mark_worker_lost(fixture.owner, vec![(running[0].0, fixture.node)], T0)
        .await
        .expect("lose");
    assert_eq!(delete(ExpectedVersion::Version(9)).await, DeleteResult::VersionMismatch);
    assert_eq!(delete(ExpectedVersion::Version(1)).await, DeleteResult::Deleted);
    assert_eq!(fixture.store.config_cache().config(config.id), None);
    assert_eq!(fixture.store.config_cache().find_config(fixture.app, &name("close-order")), None);
    assert_eq!(delete(ExpectedVersion::Any).await, DeleteResult::NotFound);
}

/// Its successor of the same name is another config: no old task is its own.
pub(super) async fn an_id_is_never_used_again(fixture: &Fixture) {
    let first = fixture.config("close-order").await;
    let task = fixture.create(fixture.new_task(&first, Some("order-42"), T0)).await;
    fixture.changed(task.id, TaskCommand::Cancel, T0).await;
    fixture.store.delete_config(first.id, ExpectedVersion::Any, &by(), T0).await.expect("delete_config");
    let second = fixture.config("close-order").await;
    assert_ne!(first.id, second.id);
    let key = super::fixture::key("order-42");
    assert_eq!(fixture.store.task_by_key(second.id, &key).await.expect("task_by_key"), None);
}

/// A config with a schedule has a cursor, from its first save to its end.
pub(super) async fn a_schedule_has_a_cursor(fixture: &Fixture) {
    fixture.config("plain").await;
    assert!(fixture.store.cursors().await.expect("cursors").is_empty(), "no schedule, no cursor");
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    assert_eq!((cursor.next_fire_at, cursor.config_version), (None, 0), "left for the fetcher to compute");
    assert_eq!((cursor.waiting, cursor.missed), (None, 0));
    fixture.save_config(cron_spec("nightly"), ExpectedVersion::Any, T0).await;
    fixture.hold(config.id, Hold::Pause { note: None }).await;
    assert_eq!(fixture.cursor(config.id).await, cursor, "an edit leaves it to be recomputed");
    fixture.store.delete_config(config.id, ExpectedVersion::Any, &by(), T0).await.expect("delete_config");
    assert!(fixture.store.cursors().await.expect("cursors").is_empty());
}

pub(super) async fn config_changes_are_in_the_audit_log(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let holds = [Hold::Pause { note: Some("down".to_owned()) }, Hold::Disable, Hold::Resume];
    for (seconds, hold) in (1..).zip(holds) {
        fixture.store.hold_config(config.id, hold, &by(), at(seconds)).await.expect("hold_config");
    }
    fixture
        .store
        .hold_config(config.id, Hold::Pause { note: None }, &by(), at(4))
        .await
        .expect("hold_config");
    fixture.save_config(spec("close-order"), ExpectedVersion::Any, at(5)).await;
    fixture.store.delete_config(config.id, ExpectedVersion::Any, &by(), at(6)).await.expect("delete_config");
    fixture.save_config(spec("x"), ExpectedVersion::Version(1), at(7)).await;
    let log = fixture.store.audit_log(7).await.expect("audit_log");
    // A detail is of what was done, not of the pause that still stands.
    let expected = [
        ("config.delete", "", 6),
        ("config.update", "", 5),
        ("config.pause", "", 4),
        ("config.resume", "", 3),
        ("config.disable", "", 2),
        ("config.pause", "down", 1),
        ("config.create", "", 0),
    ];
    assert_eq!(log.len(), expected.len());
    for (entry, (action, detail, seconds)) in log.iter().zip(expected) {
        assert_eq!((entry.action.as_str(), entry.detail.as_str(), entry.at), (action, detail, at(seconds)));
        assert_eq!((&entry.actor, entry.subject.as_str()), (&by().0, "trade/close-order"));
    }
}

/// The homes of its tasks' keys depend on it.
pub(super) async fn a_span_changes_only_without_open_tasks(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let wide = || ConfigSpec { span: config.spec.span + 1, ..config.spec.clone() };
    let task = fixture.scheduled(&config).await;
    assert_eq!(fixture.save_config(wide(), ExpectedVersion::Any, T0).await, ConfigSaved::InUse(1));
    assert_eq!(fixture.store.config_cache().config(config.id), Some(config.clone()), "nothing was changed");
    fixture.changed(task.id, TaskCommand::Cancel, T0).await;
    assert!(matches!(fixture.save_config(wide(), ExpectedVersion::Any, T0).await, ConfigSaved::Updated(_)));
}
