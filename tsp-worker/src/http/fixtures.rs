//! A task and a config for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tsp_core::config::{
    AsyncPolicy, ConfigSpec, HttpTarget, Kind, OnDuplicateKey, PRIORITY_DEFAULT, RETENTION_DEFAULT, Target,
    TaskConfig, Timeouts, Visibility,
};
use tsp_core::entropy::Entropy;
use tsp_core::ids::{AppId, ConfigId, TaskId};
use tsp_core::key::TaskKey;
use tsp_core::name::Name;
use tsp_core::retry::RetryPolicy;
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::time::Timestamp;

pub(super) const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

#[derive(Debug)]
pub(super) struct Seeded;

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::try_from(index % 251).unwrap_or_default() + 1;
        }
    }
}

pub(super) fn task() -> Task {
    let mut task = Task::new(
        NewTask {
            id: TaskId::new(7_301),
            config: ConfigId::new(1),
            key: Some(TaskKey::new("order 42/ü").unwrap()),
            execute_at: NOW,
            payload: Some(Bytes::from_static(br#"{"order":42}"#)),
            expire_after: None,
            origin: Origin::Submit,
            extra: None,
        },
        NOW,
    );
    task.attempt = 2;
    task
}

pub(super) fn config(url: &str) -> TaskConfig {
    let name = |text| Name::new(text).unwrap();
    let target = HttpTarget {
        method: "POST".to_owned(),
        url: url.to_owned(),
        headers: BTreeMap::new(),
        secret_headers: BTreeMap::new(),
    };
    TaskConfig {
        id: ConfigId::new(1),
        app_id: AppId::new(1),
        app: name("trade"),
        spec: ConfigSpec {
            name: name("close-order"),
            kind: Kind::Delayed,
            description: String::new(),
            owner: String::new(),
            labels: BTreeMap::new(),
            target: Target::Http(Arc::new(target)),
            schedule: None,
            retry: RetryPolicy::default(),
            timeout: Timeouts::default(),
            asynchronous: AsyncPolicy::default(),
            payload: None,
            priority: PRIORITY_DEFAULT,
            queue: name("default"),
            group: name("default"),
            span: 1,
            on_duplicate_key: OnDuplicateKey::default(),
            expire_after: None,
            retention: RETENTION_DEFAULT,
            visibility: Visibility::default(),
            signing_secrets: Vec::new(),
            enabled: true,
        },
        paused: None,
        version: 1,
        created_at: NOW,
        updated_at: NOW,
    }
}

pub(super) fn edit_target(config: &mut TaskConfig, edit: impl FnOnce(&mut HttpTarget)) {
    let Target::Http(target) = &mut config.spec.target;
    edit(Arc::make_mut(target));
    config.version += 1;
}
