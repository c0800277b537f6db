//! A power loss: a process writes under `strace`, which records each write, sync and answer; from the record the
//! files are put together as a disk may have them at each moment, and the store must open and hold what was
//! answered.

pub(crate) mod disk;
pub(crate) mod record;

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tsp_core::{TaskId, Timestamp};
use tsp_store::fetching::AuditorStore as _;
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{Actor, CommandResult, Subject, SubmitOutcome, TaskCommand, TaskStore as _};

use crate::tests::power::disk::{Disk, Files};
use crate::tests::power::record::{Event, read};
use crate::tests::{NOW, make_config, new_task, submit};
use crate::{SqliteOptions, SqliteStore, Synchronous};

/// The log is folded again and again meanwhile.
const CHECKPOINT_PAGES: i32 = 30;
const ROUNDS: i64 = 15;

/// Marks the folder in which [`writes_for_the_record`] writes.
const HERE: &str = "record-here";

/// Does nothing but under `strace`, as [`whatever_the_disk_kept_holds_what_was_answered`] runs it.
#[tokio::test]
async fn writes_for_the_record() {
    if !Path::new(HERE).exists() {
        return;
    }
    // On one shard every task is at home.
    let options = SqliteOptions {
        checkpoint_pages: CHECKPOINT_PAGES,
        readers: 1,
        shards: 1,
        ..SqliteOptions::file("tsp.db")
    };
    assert_eq!(options.synchronous, Synchronous::Full);
    let store = SqliteStore::open(&options, NOW).unwrap();
    let config = make_config(&store, "recorded").await;
    for round in 0..ROUNDS {
        let ids = (0..=round % 5).map(|number| round * 10 + number + 1).collect::<Vec<_>>();
        let tasks = ids.iter().map(|id| {
            let payload = format!("{{\"filler\":\"{}\"}}", "x".repeat(usize::try_from(round * 120).unwrap()));
            submit(tsp_core::task::Task { payload: Some(payload.into()), ..new_task(*id, config.id, None) })
        });
        let answers = store.submit(tasks.collect(), NOW).await.unwrap();
        assert!(
            answers
                .iter()
                .all(|answer| matches!(answer, IdempotencyResult::Fresh(SubmitOutcome::Created(_))))
        );
        say(&ids.iter().map(|id| format!("made {id};")).collect::<Vec<_>>().concat());
        if round % 3 == 2 {
            let id = (round - 1) * 10 + 1;
            let changed =
                store.change(Subject::Id(TaskId::new(id)), TaskCommand::Cancel, &Actor::system(), NOW).await;
            let changed = changed.unwrap();
            assert!(matches!(changed, CommandResult::Done { .. }), "{id}: {changed:?}");
            say(&format!("ended {id};"));
        }
    }
    store.close().await;
}

/// One write of the standard error, as the record shows it.
fn say(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// The system calls of a process that writes, until it has closed its store.
fn recorded(folder: &Path) -> Vec<Event> {
    std::fs::write(folder.join(HERE), "").expect("the folder is the test's");
    let record = folder.join("record");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-y", "-xx", "-s", "5000", "-o"]).arg(&record);
    strace.args(["-e", "trace=write,pwrite64,ftruncate,fsync,fdatasync,unlink"]);
    strace.arg(std::env::current_exe().expect("it runs"));
    strace.args(["--exact", "tests::power::writes_for_the_record", "--nocapture"]);
    strace.current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = strace.output().unwrap_or_else(|error| panic!("{error}: run tools/install-strace"));
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
    read(&std::fs::read_to_string(record).expect("strace wrote it"))
}

/// What was answered.
#[derive(Debug, Default)]
struct AnsweredTasks {
    made: Vec<TaskId>,
    ended: Vec<TaskId>,
}

impl AnsweredTasks {
    fn add(&mut self, text: &str) {
        for part in text.split(';') {
            let id = |id: &str| TaskId::new(id.trim().parse().expect("it is an id"));
            if let Some(made) = part.trim().strip_prefix("made ") {
                self.made.push(id(made));
            } else if let Some(ended) = part.trim().strip_prefix("ended ") {
                self.ended.push(id(ended));
            }
        }
    }
}

#[tokio::test]
async fn whatever_the_disk_kept_holds_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let events = recorded(folder.path());
    let key = std::fs::read(folder.path().join("tsp.db.key")).unwrap();
    // Each state is opened, which syncs; in memory where there is such a place.
    let kept = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (mut disk, mut answered, mut seen) = (Disk::default(), AnsweredTasks::default(), HashSet::new());
    let (mut looks, mut syncs, hashes) = (0, 0, RandomState::new());
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Said(text) => answered.add(text),
            Event::Synced(file) => {
                disk.sync(file);
                syncs += 1;
            }
            Event::Changed(change) => disk.change(change.clone()),
        }
        for (what, files) in disk.possible() {
            if seen.insert(hashes.hash_one((&files, answered.made.len(), answered.ended.len()))) {
                looks += 1;
                look(kept.path(), &files, &key, &answered).await.unwrap_or_else(|why| {
                    panic!("event {at} of {}, {what}: {why}", events.len());
                });
            }
        }
    }
    println!("{} events, {syncs} syncs, {looks} states of the disk", events.len());
    assert!(syncs > ROUNDS && looks > 500, "the record is too short: {syncs} syncs, {looks} states");
    assert_eq!(answered.made.len(), 45);
}

/// Opens what a disk kept as the service does after a stop that was none.
async fn look(folder: &Path, files: &Files, key: &[u8], answered: &AnsweredTasks) -> Result<(), String> {
    let place = folder.join("kept");
    let _ = std::fs::remove_dir_all(&place);
    std::fs::create_dir(&place).map_err(|error| error.to_string())?;
    for (name, bytes) in files {
        std::fs::write(place.join(name), bytes).map_err(|error| error.to_string())?;
    }
    let options = SqliteOptions {
        synchronous: Synchronous::Normal,
        readers: 1,
        shards: 1,
        check_within: Some(Duration::from_mins(1)),
        ..SqliteOptions::file(place.join("tsp.db"))
    };
    std::fs::write(place.join("tsp.db.key"), key).map_err(|error| error.to_string())?;
    let store = SqliteStore::open(&options, NOW).map_err(|error| error.to_string())?;
    let found = holds(&store, answered).await;
    store.close().await;
    found
}

async fn holds(store: &SqliteStore, answered: &AnsweredTasks) -> Result<(), String> {
    let audit = store.audit(Timestamp::MAX).await.map_err(|error| error.to_string())?;
    let open: i64 = audit.open.iter().map(|(_, count)| count).sum();
    let unaccounted = audit.accepted - audit.ended - open;
    if unaccounted != 0 {
        return Err(format!("{unaccounted} are unaccounted for"));
    }
    for id in &answered.made {
        let task = store.task(*id).await.map_err(|error| error.to_string())?;
        let task = task.ok_or_else(|| format!("task {id} was answered and is not there"))?;
        if answered.ended.contains(id) && task.is_open() {
            return Err(format!("task {id} was cancelled and is {:?}", task.status));
        }
    }
    Ok(())
}
