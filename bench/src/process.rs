//! Child processes: started, asked to stop, waited for.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::client::Connection;
use crate::receiver::Summary;

/// Also beside as many rows as a disk holds.
const START_LIMIT: Duration = Duration::from_mins(5);
const STOP_LIMIT: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// An executable beside this one: both are of the same profile.
pub(crate) fn beside(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("the system does not know where this executable is")?;
    let path = this.with_file_name(name);
    ensure!(path.is_file(), "`{}` is missing: build it first, in the same profile", path.display());
    Ok(path)
}

/// How the executable is started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setup {
    /// The soft and the hard limit of descriptors; those of this process if none are given.
    pub(crate) descriptors: Option<(u32, u32)>,
    /// More of its settings, by their names in the environment.
    pub(crate) settings: Vec<(&'static str, String)>,
}

impl Setup {
    /// `tsp`, under these limits.
    pub(crate) fn tsp(&self) -> Result<Command> {
        let program = beside("tsp")?;
        let Some((soft, hard)) = self.descriptors else { return Ok(Command::new(program)) };
        let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(program);
        Ok(command)
    }
}

/// A child that has said `ready: <something>`.
#[derive(Debug)]
pub(crate) struct ReadyProcess {
    pub(crate) child: Child,
    pub(crate) said: String,
    /// Kept open: a child that writes to a closed pipe would fail.
    _output: Lines<BufReader<ChildStdout>>,
}

impl ReadyProcess {
    pub(crate) async fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let stdout = child.stdout.take().context("the output is piped")?;
        let mut output = BufReader::new(stdout).lines();
        let said = tokio::time::timeout(START_LIMIT, async {
            while let Some(line) = output.next_line().await? {
                if let Some(said) = line.strip_prefix("ready: ") {
                    return Ok(said.trim().to_owned());
                }
            }
            bail!("{command:?} ended before it was ready")
        });
        let said = said.await.with_context(|| format!("{command:?} was not ready in {START_LIMIT:?}"))??;
        Ok(Self { child, said, _output: output })
    }

    /// `host:port`, of a process that answers HTTP.
    pub(crate) fn address(&self) -> String {
        self.said.trim_start_matches("http://").trim_end_matches('/').to_owned()
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("the process has ended")
    }

    /// Asks it to stop, and waits.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let kill = format!("kill -TERM {}", self.pid()?);
        Command::new("sh").arg("-c").arg(kill).status().await?;
        tokio::time::timeout(STOP_LIMIT, self.child.wait()).await.context("it did not stop in time")??;
        Ok(())
    }
}

/// The receiver and the connection to it.
#[derive(Debug)]
pub(crate) struct Receiver {
    process: ReadyProcess,
    line: Connection,
}

impl Receiver {
    pub(crate) async fn start() -> Result<Self> {
        Self::start_by(Command::new(beside("bench")?).arg("receiver")).await
    }

    /// On every address of loopback, with as many descriptors as the system gives.
    pub(crate) async fn everywhere() -> Result<Self> {
        let script = "ulimit -Sn \"$(ulimit -Hn)\" && exec \"$0\" receiver --everywhere";
        Self::start_by(Command::new("sh").arg("-c").arg(script).arg(beside("bench")?)).await
    }

    async fn start_by(command: &mut Command) -> Result<Self> {
        let process = ReadyProcess::start(command).await?;
        let line = Connection::open(&process.said, "").await?;
        Ok(Self { process, line })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.process.said)
    }

    /// The same under another name or address of this machine's loopback.
    pub(crate) fn url_at(&self, host: &str, path: &str) -> String {
        let port = self.process.said.rsplit(':').next().unwrap_or_default();
        format!("http://{host}:{port}/{path}")
    }

    pub(crate) async fn reset(&mut self) -> Result<()> {
        self.line.json("GET", "/control/reset", &Value::Null, 200).await.map(drop)
    }

    pub(crate) async fn summary(&mut self, label: &str) -> Result<Summary> {
        let path = format!("/control/summary/{label}");
        let value = self.line.json("GET", &path, &Value::Null, 200).await?;
        serde_json::from_value(value).context("the receiver's summary")
    }

    /// Waits until `wanted` have come to `label`, at most so long; then what came is what there is.
    pub(crate) async fn wait(&mut self, label: &str, wanted: usize, limit: Duration) -> Result<Summary> {
        let waiting = async {
            let mut tick = tokio::time::interval(LOOK_EVERY);
            loop {
                tick.tick().await;
                let count =
                    self.line.json("GET", &format!("/control/count/{label}"), &Value::Null, 200).await?;
                if count.as_u64().is_some_and(|count| count >= wanted as u64) {
                    return anyhow::Ok(());
                }
            }
        };
        if let Ok(failed) = tokio::time::timeout(limit, waiting).await {
            failed?;
        } else {
            // The timed-out call may have left an answer on the connection.
            self.line = Connection::open(&self.process.said, "").await?;
        }
        self.summary(label).await
    }

    pub(crate) async fn stop(self) -> Result<()> {
        // It has nothing to save.
        let mut child = self.process.child;
        child.kill().await.context("cannot end the receiver")
    }
}
