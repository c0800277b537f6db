//! A task and a config for tests.

use std::sync::Arc;

use bytes::Bytes;
use tsp_consumer_core::{Fence, TaskContext};
use tsp_core::config::{ConfigSpec, HttpTarget, Target, TaskConfig};
use tsp_core::entropy::Entropy;
use tsp_core::ids::{AppId, ConfigId, TaskId};
use tsp_core::name::Name;
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::task_key::TaskKey;
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

/// Its attempt, which may be sent.
pub(super) fn context(task: &Task, config: &TaskConfig) -> TaskContext {
    TaskContext {
        task: Box::new(task.clone()),
        config: Arc::new(config.clone()),
        completion_token: None,
        now: NOW,
        fence: Fence::open(),
    }
}

pub(super) fn config(url: &str) -> TaskConfig {
    let name = |text| Name::new(text).unwrap();
    TaskConfig {
        id: ConfigId::new(1),
        app_id: AppId::new(1),
        app: name("trade"),
        spec: ConfigSpec::new(name("close-order"), HttpTarget::post(url)),
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
