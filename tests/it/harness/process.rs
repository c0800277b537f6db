//! The service as a child process: started, killed, started again, stopped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{RwLockReadGuard, oneshot};
use tokio::task::JoinSet;

use super::{Api, TempDir, in_time, turn};

pub(crate) const BOOTSTRAP_KEY: &str = "integration-test-bootstrap-key";

/// How much of the log a failed test shows.
const LOG_LINES_SHOWN: usize = 60;

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

/// Settings for a service that is about to be started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pairs: Vec<(String, String)>,
}

impl Settings {
    /// `name` as in the file, `store.url`; it travels as an environment variable.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        let variable = format!("TSP__{}", name.replace('.', "__").to_uppercase());
        self.pairs.push((variable, value.to_owned()));
        self
    }

    pub(crate) async fn start(self) -> Tsp {
        Tsp::with(self).await
    }
}

/// A running service on a private folder. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Tsp {
    api: Api,
    child: Option<Child>,
    command: Vec<String>,
    settings: Settings,
    log: Log,
    readers: JoinSet<()>,
    dir: TempDir,
    _turn: Option<RwLockReadGuard<'static, ()>>,
}

impl Tsp {
    /// With the settings that every test wants and no others.
    pub(crate) async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) fn settings() -> Settings {
        Settings::default()
    }

    async fn with(settings: Settings) -> Self {
        let turn = turn::shared().await;
        let mut tsp = Self::prepared(settings, Some(turn));
        tsp.boot().await;
        tsp
    }

    /// For a test that holds [`turn::alone`].
    pub(crate) async fn start_alone(settings: Settings) -> Self {
        let mut tsp = Self::prepared(settings, None);
        tsp.boot().await;
        tsp
    }

    /// `tsp dev`, on a private folder.
    pub(crate) async fn dev() -> Self {
        let turn = turn::shared().await;
        let mut tsp = Self::prepared(Settings::default().set("web.listen", "127.0.0.1:0"), Some(turn));
        tsp.command = vec!["dev".to_owned()];
        tsp.boot().await;
        tsp
    }

    fn prepared(settings: Settings, turn: Option<RwLockReadGuard<'static, ()>>) -> Self {
        let dir = TempDir::new();
        let file = dir.join("tsp.toml");
        let text = format!(
            "[web]\nlisten = \"127.0.0.1:0\"\n\n\
             [store]\nurl = \"sqlite:{}\"\n\n\
             [worker.http]\nallow_networks = [\"127.0.0.0/8\"]\n",
            dir.join("tsp.db").display()
        );
        std::fs::write(&file, text).expect("the private folder is writable");
        Self {
            api: Api::new(BOOTSTRAP_KEY),
            child: None,
            command: vec!["serve".to_owned(), "--config".to_owned(), file.display().to_string()],
            settings,
            log: Log::default(),
            readers: JoinSet::new(),
            dir,
            _turn: turn,
        }
    }

    /// Starts the process and waits until it says that it is ready.
    async fn boot(&mut self) {
        let mut command = Command::new(executable());
        command.args(&self.command);
        self.boot_by(command).await;
    }

    /// The same under another command, such as a tracer, that ends in the executable and its arguments.
    pub(crate) async fn boot_by(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "the service runs already");
        command
            .env("TSP__AUTH__BOOTSTRAP_KEY", BOOTSTRAP_KEY)
            .envs(self.settings.pairs.iter().cloned())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let (tell, ready) = oneshot::channel();
        let stdout = child.stdout.take().expect("the output is piped");
        let stderr = child.stderr.take().expect("the errors are piped");
        self.readers.spawn(read(stdout, self.log.clone(), Some(tell)));
        self.readers.spawn(read(stderr, self.log.clone(), None));
        self.child = Some(child);
        let url = in_time("`ready:` on the output", ready).await;
        self.api.set_base(&url.expect("`tsp` says that it is ready before it ends"));
    }

    pub(crate) fn api(&self) -> Api {
        self.api.clone()
    }

    /// The process, for reading its figures from /proc.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("the service runs")
    }

    pub(crate) fn dir(&self) -> &TempDir {
        &self.dir
    }

    pub(crate) fn args(&self) -> &[String] {
        &self.command
    }

    /// Everything that the processes have said so far.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Ends the process with no warning, as a power cut would.
    pub(crate) async fn kill9(&mut self) {
        let mut child = self.child.take().expect("the service runs");
        child.start_kill().expect("our own child can be killed");
        in_time("the end of the killed process", child.wait()).await.expect("a child can be waited for");
        self.log.add(">>> killed");
    }

    pub(crate) async fn restart(&mut self) {
        self.log.add(">>> started again");
        self.boot().await;
    }

    /// Asks the process to stop and waits until it has.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        signal(self.pid(), "TERM").await;
        self.ended().await
    }

    /// Waits for the end of a process that has been told to stop, or that stops by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the service runs");
        let status = in_time("the end of the stopped process", child.wait()).await;
        status.expect("a child can be waited for")
    }

    /// Reads the store of a service that has been stopped.
    pub(crate) fn database(&self) -> rusqlite::Connection {
        assert!(self.child.is_none(), "stop the service before reading its file");
        let file = self.dir.join("tsp.db");
        rusqlite::Connection::open(&file).unwrap_or_else(|e| panic!("cannot open `{}`: {e}", file.display()))
    }
}

impl Drop for Tsp {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.log.text();
            let lines: Vec<_> = text.lines().collect();
            let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
            let mut out = std::io::stderr().lock();
            let _ = writeln!(out, "--- the service's log, last {} lines", lines.len() - from);
            for line in &lines[from..] {
                let _ = writeln!(out, "{line}");
            }
            let _ = std::fs::write(self.dir.join("log.txt"), text);
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
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the executable to its end, with a clean environment but for `environment`.
pub(crate) async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(executable());
    command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    let output = in_time(format!("the end of `tsp {}`", arguments.join(" ")), command.output()).await;
    let output = output.unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().push(line.into());
    }

    fn text(&self) -> String {
        self.0.lock().join("\n")
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
