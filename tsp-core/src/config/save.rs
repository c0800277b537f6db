//! What becomes of a config that is saved, held or deleted.

use std::sync::Arc;

use super::{ConfigSpec, Paused, TaskConfig};
use crate::ids::{AppId, ConfigId};
use crate::name::Name;
use crate::time::Timestamp;

/// What must be true of the stored config for a change to be made (`If-Match`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedVersion {
    Any,
    Absent,
    Version(i64),
}

impl ExpectedVersion {
    fn is(self, config: &TaskConfig) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => false,
            Self::Version(version) => version == config.version,
        }
    }
}

/// Holding and letting go. Each is a change of the config: its version rises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    Pause { note: Option<String> },
    Resume,
    Enable,
    Disable,
}

/// What a change of a config writes, whatever the back end.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigWrite {
    /// `None`: a new config.
    pub before: Option<Arc<TaskConfig>>,
    /// The id of a new one is the store's to give.
    pub after: TaskConfig,
    /// For the change log and the audit log.
    pub action: &'static str,
    /// What the audit entry says beyond the action.
    pub detail: String,
    pub cursor: CursorChange,
}

/// What becomes of the cursor of a config's schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorChange {
    /// There is one. One that stands is left alone: the fetcher sees by the config's version that it must be computed
    /// again.
    Make,
    Drop,
    Unchanged,
}

impl CursorChange {
    /// With each save.
    pub const fn of(spec: &ConfigSpec) -> Self {
        if spec.schedule.is_some() { Self::Make } else { Self::Drop }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum SaveDecision {
    Write(Box<ConfigWrite>),
    Refused(SaveRefusal),
    /// How many open tasks it has decides: count them, and ask again.
    CountOpen(ConfigId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveRefusal {
    NotFound,
    AlreadyExists,
    VersionMismatch {
        version: i64,
    },
    /// `kind` never changes.
    KindChanged,
    /// `span` changes only while the config has no open task; it has so many.
    InUse(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteRefusal {
    VersionMismatch,
    /// It has so many open tasks.
    InUse(usize),
}

/// Creates or replaces the config of this name in `app`. `before`: as it is stored; `open`: its open tasks, if they
/// were counted.
pub fn save(
    app: (AppId, &Name),
    before: Option<&Arc<TaskConfig>>,
    spec: &ConfigSpec,
    expected: ExpectedVersion,
    open: Option<usize>,
    now: Timestamp,
) -> SaveDecision {
    let (after, action) = match (before, expected) {
        (None, ExpectedVersion::Version(_)) => return SaveDecision::Refused(SaveRefusal::NotFound),
        (None, ExpectedVersion::Any | ExpectedVersion::Absent) => (created(app, spec, now), "config.create"),
        (Some(_), ExpectedVersion::Absent) => return SaveDecision::Refused(SaveRefusal::AlreadyExists),
        (Some(before), _) => {
            if let Some(other) = hindrance(before, spec, expected, open) {
                return other;
            }
            (TaskConfig { spec: spec.clone(), ..next(before, now) }, "config.update")
        }
    };
    let (before, detail, cursor) = (before.cloned(), String::new(), CursorChange::of(spec));
    SaveDecision::Write(Box::new(ConfigWrite { before, after, action, detail, cursor }))
}

/// Why a stored config is not replaced, or not yet.
fn hindrance(
    before: &TaskConfig,
    spec: &ConfigSpec,
    expected: ExpectedVersion,
    open: Option<usize>,
) -> Option<SaveDecision> {
    if !expected.is(before) {
        return Some(SaveDecision::Refused(SaveRefusal::VersionMismatch { version: before.version }));
    }
    if before.spec.kind != spec.kind {
        return Some(SaveDecision::Refused(SaveRefusal::KindChanged));
    }
    if before.spec.span == spec.span {
        return None;
    }
    // The homes of the keys of open tasks depend on it.
    match open {
        Some(0) => None,
        Some(open) => Some(SaveDecision::Refused(SaveRefusal::InUse(open))),
        None => Some(SaveDecision::CountOpen(before.id)),
    }
}

pub fn hold(before: Arc<TaskConfig>, hold: Hold, by: &str, now: Timestamp) -> ConfigWrite {
    let mut after = next(&before, now);
    let mut detail = String::new();
    let action = match hold {
        Hold::Pause { note } => {
            detail = note.clone().unwrap_or_default();
            after.paused = Some(Paused { by: by.to_owned(), at: now, note });
            "config.pause"
        }
        Hold::Resume => {
            after.paused = None;
            "config.resume"
        }
        Hold::Enable => {
            after.spec.enabled = true;
            "config.enable"
        }
        Hold::Disable => {
            after.spec.enabled = false;
            "config.disable"
        }
    };
    ConfigWrite { before: Some(before), after, action, detail, cursor: CursorChange::Unchanged }
}

/// Whether a config with so many open tasks may be deleted.
pub fn delete(before: &TaskConfig, expected: ExpectedVersion, open: usize) -> Result<(), DeleteRefusal> {
    if !expected.is(before) {
        return Err(DeleteRefusal::VersionMismatch);
    }
    if open > 0 { Err(DeleteRefusal::InUse(open)) } else { Ok(()) }
}

fn created((app_id, app): (AppId, &Name), spec: &ConfigSpec, now: Timestamp) -> TaskConfig {
    TaskConfig {
        id: ConfigId::default(),
        app_id,
        app: app.clone(),
        spec: spec.clone(),
        paused: None,
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

fn next(before: &TaskConfig, now: Timestamp) -> TaskConfig {
    TaskConfig { version: before.version + 1, updated_at: now, ..before.clone() }
}

#[cfg(test)]
mod tests {
    use super::super::{HttpTarget, Kind};
    use super::*;
    use crate::schedule::{Every, Schedule, Trigger};
    use crate::time::Millis;

    const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);
    const LATER: Timestamp = NOW.plus(Millis::from_secs(60));
    const APP: AppId = AppId::new(1);
    const ALL: [ExpectedVersion; 4] = [
        ExpectedVersion::Any,
        ExpectedVersion::Absent,
        ExpectedVersion::Version(7),
        ExpectedVersion::Version(8),
    ];

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn spec() -> ConfigSpec {
        ConfigSpec::new(name("nightly"), HttpTarget::post("http://receiver.internal/"))
    }

    fn scheduled() -> ConfigSpec {
        let every = Every { interval: Millis::from_secs(10), anchor: NOW };
        ConfigSpec { schedule: Some(Schedule::new(Trigger::Every(every))), ..spec() }
    }

    /// Paused, with a note.
    fn stored() -> Arc<TaskConfig> {
        let paused = Paused { by: "cli".to_owned(), at: NOW, note: Some("down".to_owned()) };
        Arc::new(TaskConfig {
            id: ConfigId::new(3),
            version: 7,
            paused: Some(paused),
            ..created((APP, &name("trade")), &spec(), NOW)
        })
    }

    fn save_as(
        before: Option<&Arc<TaskConfig>>,
        spec: &ConfigSpec,
        expected: ExpectedVersion,
        open: Option<usize>,
    ) -> SaveDecision {
        save((APP, &name("trade")), before, spec, expected, open, LATER)
    }

    fn written(decision: SaveDecision) -> ConfigWrite {
        match decision {
            SaveDecision::Write(write) => *write,
            other => panic!("it must be saved: {other:?}"),
        }
    }

    #[test]
    fn a_save_is_made_of_what_was_expected_alone() {
        let version_mismatch = SaveDecision::Refused(SaveRefusal::VersionMismatch { version: 7 });
        for expected in ALL {
            let new = save_as(None, &spec(), expected, None);
            let again = save_as(Some(&stored()), &spec(), expected, None);
            match expected {
                ExpectedVersion::Any => {
                    assert_eq!(
                        (written(new).action, written(again).action),
                        ("config.create", "config.update")
                    );
                }
                ExpectedVersion::Absent => {
                    assert_eq!(written(new).action, "config.create");
                    assert_eq!(again, SaveDecision::Refused(SaveRefusal::AlreadyExists));
                }
                ExpectedVersion::Version(version) => {
                    assert_eq!(new, SaveDecision::Refused(SaveRefusal::NotFound));
                    assert!(if version == 7 {
                        written(again).action == "config.update"
                    } else {
                        again == version_mismatch
                    });
                }
            }
        }
    }

    #[test]
    fn a_new_config_is_as_it_was_written() {
        let write = written(save_as(None, &scheduled(), ExpectedVersion::Absent, None));
        let TaskConfig { id, app_id, app, spec, paused, version, created_at, updated_at } = write.after;
        assert_eq!((id, app_id, app, version), (ConfigId::default(), APP, name("trade"), 1));
        assert_eq!((spec, paused, created_at, updated_at), (scheduled(), None, LATER, LATER));
        assert_eq!((write.before, write.cursor), (None, CursorChange::Make));
    }

    #[test]
    fn a_save_replaces_the_spec_and_lets_nothing_go() {
        let write = written(save_as(Some(&stored()), &scheduled(), ExpectedVersion::Any, None));
        let expected =
            TaskConfig { spec: scheduled(), version: 8, updated_at: LATER, ..TaskConfig::clone(&stored()) };
        assert_eq!((write.before, write.after), (Some(stored()), expected));
        assert_eq!((write.cursor, write.detail.as_str()), (CursorChange::Make, ""), "an old note is no news");
        let bare = written(save_as(Some(&stored()), &spec(), ExpectedVersion::Any, None));
        assert_eq!(bare.cursor, CursorChange::Drop);
    }

    #[test]
    fn what_never_changes_and_what_changes_without_open_tasks() {
        let cron = ConfigSpec { kind: Kind::Cron, span: 9, ..spec() };
        let refused = |refusal| SaveDecision::Refused(refusal);
        assert_eq!(
            save_as(Some(&stored()), &cron, ExpectedVersion::Any, Some(0)),
            refused(SaveRefusal::KindChanged)
        );
        let wide = ConfigSpec { span: 9, ..spec() };
        let save_wide = |open| save_as(Some(&stored()), &wide, ExpectedVersion::Any, open);
        assert_eq!(save_wide(None), SaveDecision::CountOpen(ConfigId::new(3)));
        assert_eq!(save_wide(Some(2)), refused(SaveRefusal::InUse(2)));
        assert_eq!(written(save_wide(Some(0))).after.spec.span, 9);
        let stale = save_as(Some(&stored()), &wide, ExpectedVersion::Version(6), None);
        assert_eq!(
            stale,
            refused(SaveRefusal::VersionMismatch { version: 7 }),
            "nothing is counted for that"
        );
        assert_eq!(
            written(save_as(Some(&stored()), &spec(), ExpectedVersion::Any, Some(2))).action,
            "config.update"
        );
    }

    #[test]
    fn a_hold_changes_what_it_says_and_tells_its_own_note() {
        let note = Some("停".to_owned());
        let pause = hold(stored(), Hold::Pause { note: note.clone() }, "key:17", LATER);
        assert_eq!(pause.after.paused, Some(Paused { by: "key:17".to_owned(), at: LATER, note }));
        assert_eq!((pause.action, pause.detail.as_str()), ("config.pause", "停"));
        let plain = hold(stored(), Hold::Pause { note: None }, "cli", LATER);
        assert_eq!(plain.detail, "", "not that of the pause before");
        let resume = hold(stored(), Hold::Resume, "cli", LATER);
        assert_eq!((resume.after.paused, resume.action), (None, "config.resume"));
        let off = hold(stored(), Hold::Disable, "cli", LATER);
        assert!(!off.after.spec.enabled && off.after.paused.is_some());
        assert_eq!(
            (off.action, off.detail.as_str(), off.cursor),
            ("config.disable", "", CursorChange::Unchanged)
        );
        let on = hold(Arc::new(off.after), Hold::Enable, "cli", LATER);
        assert_eq!((on.after.spec.enabled, on.action, on.after.version), (true, "config.enable", 9));
    }

    #[test]
    fn a_config_is_deleted_as_expected_and_without_open_tasks() {
        for (expected, open) in ALL.into_iter().flat_map(|expected| [(expected, 0), (expected, 2)]) {
            let wanted = match (expected, open) {
                (ExpectedVersion::Absent | ExpectedVersion::Version(8), _) => {
                    Err(DeleteRefusal::VersionMismatch)
                }
                (_, 0) => Ok(()),
                (_, open) => Err(DeleteRefusal::InUse(open)),
            };
            assert_eq!(delete(&stored(), expected, open), wanted, "{expected:?}, {open} open");
        }
    }
}
