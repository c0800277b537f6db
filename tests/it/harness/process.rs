//! One process of the service as a child: started, killed, paused, started again, stopped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::{Api, in_time};

pub(crate) const BOOTSTRAP_KEY: &str = "integration-test-bootstrap-key";

/// How much of the log a failed test shows.
const LOG_LINES_SHOWN: usize = 60;
/// How often the state of a process is read that has been stopped.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The executable under test, built beside this one: `target/<profile>/deps/it-… → target/<profile>/tsp`.
pub(crate) fn executable() -> PathBuf {
    let this = std::env::current_exe().expect("the system knows where this executable is");
    let profile = this.parent().and_then(Path::parent).expect("tests lie in `target/<profile>/deps`");
    let tsp = profile.join("tsp");
    assert!(
        tsp.is_file(),
        "`{}` is missing: build it first, `cargo build --package tsp`, in the same profile",
        tsp.display()
    );
    tsp
}

/// One process, which may be down. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    dir: PathBuf,
    child: Option<Child>,
    log: Log,
    readers: JoinSet<()>,
    api: Api,
}

/// Comes when the process has said that it is ready.
#[must_use = "a process that is not waited for may not be there yet"]
pub(crate) struct Readiness {
    name: String,
    said: oneshot::Receiver<String>,
}

impl Process {
    /// One that is not started yet, with its folder. `name` is for whoever reads a failure.
    pub(crate) fn new(
        name: &str,
        dir: &Path,
        arguments: Vec<String>,
        environment: Vec<(String, String)>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            arguments,
            environment,
            dir: dir.to_owned(),
            child: None,
            log: Log::default(),
            readers: JoinSet::new(),
            api: Api::new(BOOTSTRAP_KEY),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it listens on: the API, or only `/healthz`, `/readyz` and `/metrics`. Follows restarts.
    pub(crate) fn api(&self) -> Api {
        self.api.clone()
    }

    pub(crate) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Everything that it has said so far, over all its starts.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until it has said this. What it says just before it is ready may be read just after that.
    pub(crate) async fn has_said(&self, text: &str) {
        in_time(format!("`{text}` in the log of `{}`", self.name), self.log.has(text)).await;
    }

    pub(crate) fn pid(&self) -> u32 {
        let pid = self.child.as_ref().and_then(Child::id);
        pid.unwrap_or_else(|| panic!("the process `{}` does not run", self.name))
    }

    pub(crate) fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// Starts it; several may be on their way at once.
    pub(crate) fn launch(&mut self) -> Readiness {
        let mut command = Command::new(executable());
        command.args(&self.arguments);
        self.launch_by(command)
    }

    /// The same under another command, such as a tracer, that ends in the executable and its arguments.
    pub(crate) fn launch_by(&mut self, mut command: Command) -> Readiness {
        assert!(self.child.is_none(), "`{}` runs already", self.name);
        command
            .env("TSP__AUTH__BOOTSTRAP_KEY", BOOTSTRAP_KEY)
            .envs(self.environment.iter().cloned())
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let (tell, said) = oneshot::channel();
        let stdout = child.stdout.take().expect("the output is piped");
        let stderr = child.stderr.take().expect("the errors are piped");
        self.log.add(">>> started");
        self.readers.spawn(read(stdout, self.log.clone(), Some(tell)));
        self.readers.spawn(read(stderr, self.log.clone(), None));
        self.child = Some(child);
        Readiness { name: self.name.clone(), said }
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn is_ready(&self, readiness: Readiness) {
        let Readiness { name, said } = readiness;
        let url = in_time(format!("`ready:` on the output of `{name}`"), said).await;
        self.api.set_base(&url.unwrap_or_else(|_| panic!("`{name}` ended before it said that it is ready")));
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) async fn boot(&mut self) {
        let readiness = self.launch();
        self.is_ready(readiness).await;
    }

    /// Ends it with no warning, as a power cut would, and does not wait until it is gone.
    pub(crate) fn start_kill(&mut self) {
        let child = self.child.as_mut().unwrap_or_else(|| panic!("`{}` does not run", self.name));
        child.start_kill().expect("our own child can be killed");
    }

    /// Ends it with no warning, as a power cut would.
    pub(crate) async fn kill9(&mut self) {
        self.start_kill();
        let _ = self.ended().await;
        self.log.add(">>> killed");
    }

    /// Asks it to stop; [`Self::ended`] waits for it.
    pub(crate) async fn ask_to_stop(&self) {
        signal(self.pid(), "TERM").await;
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.ask_to_stop().await;
        self.ended().await
    }

    /// Waits for the end of a process that has been told to stop, or that stops by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap_or_else(|| panic!("`{}` does not run", self.name));
        let status = in_time(format!("the end of `{}`", self.name), child.wait()).await;
        // Its last words are in the log.
        let readers = std::mem::take(&mut self.readers).join_all();
        in_time(format!("the end of what `{}` says", self.name), readers).await;
        status.expect("a child can be waited for")
    }

    /// Stops it in the middle of whatever it does, and waits until it stands still.
    pub(crate) async fn freeze(&self) {
        signal(self.pid(), "STOP").await;
        let path = format!("/proc/{}/stat", self.pid());
        // The state follows the name, which is in brackets.
        let still = || std::fs::read_to_string(&path).is_ok_and(|stat| stat.contains(") T "));
        in_time(format!("the standstill of `{}`", self.name), async {
            let mut look = interval(LOOK_EVERY);
            while !still() {
                look.tick().await;
            }
        })
        .await;
        self.log.add(">>> frozen");
    }

    /// Lets a frozen process go on.
    pub(crate) async fn thaw(&self) {
        self.log.add(">>> thawed");
        signal(self.pid(), "CONT").await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.log.text();
            let lines: Vec<_> = text.lines().collect();
            let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
            let mut out = std::io::stderr().lock();
            let _ = writeln!(out, "--- the log of `{}`, last {} lines", self.name, lines.len() - from);
            for line in &lines[from..] {
                let _ = writeln!(out, "{line}");
            }
            let _ = std::fs::write(self.dir.join(format!("{}.log", self.name)), text);
        }
    }
}

/// Sends a signal to one process that this test started. The shell's own `kill` needs no package.
pub(crate) async fn signal(pid: u32, name: &str) {
    let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status().await;
    assert!(status.is_ok_and(|status| status.success()), "cannot send SIG{name} to {pid}");
}

/// How a run of the executable ended that was not meant to stay up.
#[derive(Debug)]
pub(crate) struct ProcessExit {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the executable to its end, with a clean environment but for `environment`.
pub(crate) async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> ProcessExit {
    let mut command = Command::new(executable());
    command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    let output = in_time(format!("the end of `tsp {}`", arguments.join(" ")), command.output()).await;
    ProcessExit::of(&output.unwrap_or_else(|e| panic!("cannot start {command:?}: {e}")))
}

/// The same for one that may take longer than most.
pub(crate) async fn run_within(patience: Duration, arguments: &[&str]) -> ProcessExit {
    let mut command = Command::new(executable());
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(patience, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{command:?} did not end within {patience:?}"));
    ProcessExit::of(&output.unwrap_or_else(|e| panic!("cannot start {command:?}: {e}")))
}

impl ProcessExit {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Log(Arc<watch::Sender<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        let line = line.into();
        self.0.send_modify(|lines| lines.push(line));
    }

    fn text(&self) -> String {
        self.0.borrow().join("\n")
    }

    async fn has(&self, text: &str) {
        let mut lines = self.0.subscribe();
        let there = |lines: &Vec<String>| lines.iter().any(|line| line.contains(text));
        lines.wait_for(there).await.expect("the sender is ours");
    }
}

async fn read(pipe: impl AsyncRead + Unpin, log: Log, mut ready: Option<oneshot::Sender<String>>) {
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(url) = line.strip_prefix("ready: ")
            && let Some(tell) = ready.take()
        {
            // The test may have given up already.
            drop(tell.send(url.trim().to_owned()));
        }
        log.add(line);
    }
}

/// The address that an [`Api`] calls; it changes when the service starts again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Base(Arc<RwLock<String>>);

impl Base {
    pub(crate) fn get(&self) -> String {
        self.0.read().clone()
    }

    pub(crate) fn set(&self, url: &str) {
        url.trim_end_matches('/').clone_into(&mut self.0.write());
    }
}
