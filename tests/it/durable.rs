//! A 201 is sent after its commit has reached the disk: seen from outside, system call by system call.

use std::process::Stdio;

use reqwest::Method;
use tokio::process::Command;

use crate::harness::process::{executable, signal};
use crate::harness::{APP, Scene, Task, Tsp, id_of, in_time, only_on};

const SUBMITS: usize = 40;

/// One system call of the trace, in the order in which it was seen.
#[derive(Debug, PartialEq)]
enum Call {
    /// A sync of a file that has returned well.
    Synced,
    /// The beginning of a write that carries a 201.
    Created,
}

/// Reads `strace -f` output: a call that another thread interrupts stands in two lines, and a sync
/// counts when it returns, a write when it begins.
fn calls(trace: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    for line in trace.lines() {
        let sync = line.contains("fsync") || line.contains("fdatasync");
        if sync && line.trim_end().ends_with("= 0") {
            calls.push(Call::Synced);
        } else if line.contains("HTTP/1.1 201") && !line.contains("resumed>") {
            calls.push(Call::Created);
        }
    }
    calls
}

#[test]
fn the_trace_is_read_in_order() {
    let trace = "\
        7 fdatasync(9 <unfinished ...>\n\
        8 sendto(12, \"HTTP/1.1 200 OK\", 15, 0, NULL, 0) = 15\n\
        7 <... fdatasync resumed>) = 0\n\
        8 writev(12, [{iov_base=\"HTTP/1.1 201 Created\", iov_len=9}], 1 <unfinished ...>\n\
        8 <... writev resumed>) = 9\n";
    assert_eq!(calls(trace), [Call::Synced, Call::Created]);
}

#[tokio::test]
async fn accept_each_201_follows_the_sync_of_its_commit() {
    only_on!(Embedded, "the database of a cluster syncs in a process of its own");
    let mut tsp = Tsp::start().await;
    tsp.stop().await;
    let trace = tsp.dir().join("trace.txt");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-s", "32", "-e", "trace=fsync,fdatasync,write,writev,sendto,sendmsg", "-o"])
        .arg(&trace)
        .arg(executable())
        .args(tsp.args());
    let there = Command::new("strace").arg("-V").stdout(Stdio::null()).status().await;
    assert!(there.is_ok_and(|status| status.success()), "strace is missing: run tools/install-strace");
    tsp.boot_by(strace).await;
    let traced = tsp.pid();
    let scene = Scene::on(tsp).await;
    scene.delayed("work", |config| config).await;
    // One after another: each commit is of this submit alone.
    for _ in 0..SUBMITS {
        scene.submit(Task::of("work").delay("1h")).await;
    }
    let mut tsp = scene.tsp;
    // The tracer passes no signal on, so its child is told.
    signal(child_of(traced), "TERM").await;
    tsp.ended().await;

    let text = std::fs::read_to_string(&trace).expect("strace wrote its file");
    let calls = calls(&text);
    let created = calls.iter().filter(|call| **call == Call::Created).count();
    assert!(created >= SUBMITS, "{created} answers 201 were seen, {SUBMITS} submits were made");
    let unsafe_answers = calls
        .iter()
        .enumerate()
        .filter(|(_, call)| **call == Call::Created)
        .filter(|(at, _)| *at == 0 || calls[at - 1] != Call::Synced)
        .count();
    println!("{created} answers 201, each after a sync of its own; {unsafe_answers} without");
    assert_eq!(
        unsafe_answers, 0,
        "of {created} answers 201 some had no sync between them and the one before"
    );
}

/// Which sync of the thread that writes fails, and all after it. Some go before for the start, and for what is written
/// beside the submits.
const FAILING: usize = 40;

/// The system forgets what it could not write, so a later sync proves nothing.
#[tokio::test]
async fn a_failed_sync_ends_the_process_and_loses_nothing_that_was_answered() {
    only_on!(Embedded, "the database of a cluster syncs in a process of its own");
    let mut tsp = Tsp::start().await;
    tsp.stop().await;
    let mut strace = Command::new("strace");
    strace
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=fsync",
            "-e",
            &format!("inject=fsync:error=EIO:when={FAILING}+"),
            "-o",
        ])
        .args(["/dev/null".as_ref(), executable().as_os_str()])
        .args(tsp.args());
    tsp.boot_by(strace).await;
    let mut scene = Scene::on(tsp).await;
    scene.delayed("work", |config| config).await;
    let task = Task::of("work").delay("1h").json().to_string().into_bytes();
    let path = format!("/api/v1/apps/{APP}/tasks");
    let mut accepted = Vec::new();
    for _ in 0..3 * FAILING {
        match scene.api.try_send(Method::POST, &path, &[], Some(task.clone())).await {
            Ok(answer) if answer.status == 201 => accepted.push(id_of(&answer.json()["task"])),
            // A 5xx, or no answer any more.
            _ => break,
        }
    }
    let status = in_time("the end of the process", scene.tsp.ended()).await;
    let log = scene.tsp.log();
    assert!(!status.success(), "{status}");
    assert!(log.contains("the disk did not take what was written to") && log.contains("tsp.db"), "{log}");
    assert!((3..3 * FAILING).contains(&accepted.len()), "{} were accepted", accepted.len());

    scene.tsp.restart().await;
    scene.tsp.has_said("the last stop was not clean").await;
    for id in &accepted {
        scene.api.task(id).await;
    }
    scene.tsp.stop().await;
    let before = scene.tsp.log().len();
    scene.tsp.restart().await;
    assert!(!scene.tsp.log()[before..].contains("the last stop was not clean"), "this one was");
}

fn child_of(pid: u32) -> u32 {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read `{path}`: {e}"));
    let child = text.split_whitespace().next().and_then(|child| child.parse().ok());
    child.unwrap_or_else(|| panic!("process {pid} has no child: `{text}`"))
}
