//! What is written is read back equal.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use tsp_core::config::{
    AsyncPolicy, ConfigSpec, HttpTarget, Kind, OnDuplicateKey, Secret, Target, TargetTls, Timeouts,
    Visibility,
};
use tsp_core::retry::{Backoff, RetryPolicy};
use tsp_core::schedule::{CronSpec, Every, Misfire, MisfirePolicy, Overlap, Schedule, Trigger};
use tsp_core::task::{NextRun, Progress, TaskExtra};
use tsp_core::{AppId, Millis, Name, Timestamp};

use super::*;

fn millis() -> impl Strategy<Value = Millis> {
    any::<i64>().prop_map(Millis::from_ms)
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_ms)
}

fn payload() -> impl Strategy<Value = Option<Bytes>> {
    option::of(any::<String>().prop_map(Bytes::from))
}

fn texts() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(any::<String>(), any::<String>(), 0..4)
}

fn retry() -> impl Strategy<Value = RetryPolicy> {
    let backoff = prop_oneof![
        vec(millis(), 0..5).prop_map(Backoff::List),
        (millis(), 1.0..10.0, millis()).prop_map(|(initial, factor, max)| Backoff::Exponential {
            initial,
            factor,
            max
        }),
    ];
    (any::<u32>(), backoff, 0.0..=1.0, option::of(millis()), vec(any::<u16>(), 0..4)).prop_map(
        |(max_attempts, backoff, jitter, max_age, non_retryable_status)| RetryPolicy {
            max_attempts,
            backoff,
            jitter,
            max_age,
            non_retryable_status,
        },
    )
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let cron = prop::sample::select(vec![
        ("0 0 2 * * ?", "Asia/Shanghai"),
        ("*/5 * * * *", "UTC"),
        ("@daily", "Europe/Berlin"),
        ("0 15 10 L * ? 2030", "America/New_York"),
    ])
    .prop_map(|(expr, zone)| Trigger::Cron(CronSpec::parse(expr, None, zone).unwrap()));
    let every = (millis(), time()).prop_map(|(interval, anchor)| Trigger::Every(Every { interval, anchor }));
    let policy = prop_oneof![
        Just(MisfirePolicy::FireOnce),
        any::<u32>().prop_map(|max| MisfirePolicy::FireAll { max }),
        Just(MisfirePolicy::Skip),
    ];
    let overlap = prop::sample::select(vec![Overlap::Allow, Overlap::Skip, Overlap::QueueOne]);
    (prop_oneof![cron, every], option::of(time()), option::of(time()), policy, millis(), overlap).prop_map(
        |(trigger, start_at, end_at, policy, grace, overlap)| Schedule {
            trigger,
            start_at,
            end_at,
            misfire: Misfire { policy, grace },
            overlap,
        },
    )
}

fn extra() -> impl Strategy<Value = TaskExtra> {
    let next = (time(), payload()).prop_map(|(execute_at, payload)| NextRun { execute_at, payload });
    let progress = (option::of(any::<u8>()), option::of(any::<String>()), time())
        .prop_map(|(percent, message, at)| Progress { percent, message, at });
    let text = option::of(any::<String>());
    let excerpt = option::of(any::<String>().prop_map(String::into_boxed_str));
    let submitter = option::of(any::<i64>().prop_map(AppId::new));
    (texts(), option::of(retry()), text, option::of(next), option::of(progress), excerpt, submitter).prop_map(
        |(headers, retry, traceparent, next, progress, excerpt, submitter)| TaskExtra {
            headers,
            retry,
            traceparent,
            submitter,
            next,
            progress,
            excerpt,
        },
    )
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z][a-z0-9-]{0,20}[a-z0-9]".prop_map(|text| Name::new(&text).unwrap())
}

fn secret() -> impl Strategy<Value = Secret> {
    any::<String>().prop_map(|text| Secret::new(&text))
}

fn target() -> impl Strategy<Value = Target> {
    let secrets = btree_map(any::<String>(), secret(), 0..3);
    (any::<String>(), any::<String>(), texts(), secrets, option::of(tls())).prop_map(
        |(method, url, headers, secret_headers, tls)| {
            Target::Http(Arc::new(HttpTarget { method, url, headers, secret_headers, tls }))
        },
    )
}

fn tls() -> impl Strategy<Value = TargetTls> {
    (option::of(any::<String>()), option::of(any::<String>()), option::of(secret()))
        .prop_map(|(ca, cert, key)| TargetTls { ca, cert, key })
}

prop_compose! {
    fn spec()(
        (name, queue, group) in (name(), name(), name()),
        kind in prop::sample::select(vec![Kind::Delayed, Kind::Cron]),
        (description, owner, labels) in (any::<String>(), any::<String>(), texts()),
        (target, schedule, retry) in (target(), option::of(schedule()), retry()),
        (connect, total, deadline) in (millis(), millis(), millis()),
        (is_async, enabled, priority, span) in (any::<bool>(), any::<bool>(), any::<u8>(), any::<u16>()),
        (payload, expire_after, retention) in (payload(), option::of(millis()), millis()),
        on_duplicate_key in
            prop::sample::select(vec![OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add]),
        visibility in
            prop::sample::select(vec![Visibility::Private, Visibility::App, Visibility::Public]),
        signing_secrets in vec(secret(), 0..3),
    ) -> ConfigSpec {
        ConfigSpec {
            name, kind, description, owner, labels, target, schedule, retry,
            timeout: Timeouts { connect, total },
            asynchronous: AsyncPolicy { enabled: is_async, deadline },
            payload, priority, queue, group, span, on_duplicate_key, expire_after, retention, visibility,
            signing_secrets, enabled,
        }
    }
}

proptest! {
    #[test]
    fn extras_round_trip(extra in extra()) {
        let read = match extra_to_json(&extra).unwrap() {
            Some(text) => extra_from_json(&text).unwrap(),
            None => TaskExtra::default(),
        };
        prop_assert_eq!(read, extra);
    }

    #[test]
    fn configs_round_trip_sealed_and_show_no_secret_hidden(spec in spec()) {
        let sealer = Sealer::new(&[7; 32]).unwrap();
        let sealed = config_to_json(&spec, Secrets::Seal(&sealer)).unwrap();
        prop_assert_eq!(config_from_json(&sealed, &sealer).unwrap(), spec.clone());
        let hidden = config_to_json(&spec, Secrets::Hide).unwrap();
        let secrets = hidden.matches("\"***\"").count();
        let Target::Http(http) = &spec.target;
        let key = usize::from(http.tls.as_ref().is_some_and(|tls| tls.key.is_some()));
        prop_assert!(secrets >= spec.signing_secrets.len() + http.secret_headers.len() + key);
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let sealer = Sealer::new(&[7; 32]).unwrap();
        let _ = extra_from_json(&text);
        let _ = config_from_json(&text, &sealer);
        let _ = sealer.open(&text);
    }
}

#[test]
fn documents_are_part_of_the_storage_format() {
    let extra = TaskExtra {
        headers: BTreeMap::from([("X-Shop".to_owned(), "7".to_owned())]),
        traceparent: Some("00-ab-cd-01".to_owned()),
        next: Some(NextRun { execute_at: Timestamp::from_ms(5), payload: Some("{ \"a\": 1}".into()) }),
        ..TaskExtra::default()
    };
    let golden = r#"{"headers":{"X-Shop":"7"},"traceparent":"00-ab-cd-01","next":{"execute_at":5,"payload":"{ \"a\": 1}"}}"#;
    assert_eq!(extra_to_json(&extra).unwrap().as_deref(), Some(golden));
    assert_eq!(extra_from_json(golden).unwrap(), extra);
    assert_eq!(extra_to_json(&TaskExtra::default()).unwrap(), None);
}
