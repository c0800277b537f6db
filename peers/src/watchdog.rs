//! A server's watchdog: a shell that ends the server when the process that started it is gone.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::PeerError;

/// Takes commands on standard input. Its end, which comes even when our process is killed, is the order to kill
/// the server and to remove its directory.
const SCRIPT: &str = r#"
dir=$1
shift
pid=
while read -r command; do
    case $command in
    start)
        "$@" </dev/null >>"$dir/log" 2>&1 &
        pid=$!
        echo "$pid"
        ;;
    reap)
        wait "$pid"
        echo "$?"
        pid=
        ;;
    esac
done
if [ -n "$pid" ]; then
    kill -9 "$pid"
    wait "$pid"
fi
rm -rf -- "$dir"
"#;

/// The shell and the server it keeps.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    /// Taken when the shell is to end.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    server: Option<Pid>,
}

impl Watchdog {
    /// Starts the shell, not yet the server. From now on `dir` is the shell's to remove.
    pub(crate) fn new(dir: &Path, program: &Path, arguments: &[String]) -> Result<Self, PeerError> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "watchdog"])
            .arg(dir)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // An interrupt from the keyboard is for us; the shell must outlive us to clean up.
            .process_group(0)
            .spawn()
            .map_err(PeerError::io("starting `sh`"))?;
        let commands = shell.stdin.take();
        let answers = BufReader::new(shell.stdout.take().expect("it is piped"));
        Ok(Self { shell, commands, answers, server: None })
    }

    /// Starts the server.
    pub(crate) fn start(&mut self) -> Result<(), PeerError> {
        let answer = self.ask("start")?;
        let pid = answer.parse().ok().and_then(Pid::from_raw);
        self.server = pid;
        match pid {
            Some(_) => Ok(()),
            None => Err(PeerError::Refused { request: "start".into(), said: answer }),
        }
    }

    /// The server's process, unless it was reaped.
    pub(crate) fn server(&self) -> Option<Pid> {
        self.server
    }

    /// Sends a signal; to a server that is gone, nothing.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.server {
            // It fails for a process that is gone only, and the shell keeps it as a zombie until it is reaped.
            let _ = kill_process(pid, signal);
        }
    }

    /// True when the server's process has ended by itself or by a signal.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state(), None | Some('Z' | 'X'))
    }

    /// True when the server's process is stopped and may be resumed.
    pub(crate) fn is_paused(&self) -> bool {
        self.state() == Some('T')
    }

    fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.server?.as_raw_nonzero())).ok()?;
        // The state follows the name, which is in brackets and may itself hold brackets.
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// Kills the server, if it runs, and waits until its ports and locks are free.
    pub(crate) fn kill(&mut self) {
        if self.server.is_some() {
            self.signal(Signal::KILL);
            self.ask("reap").expect("the shell lives as long as this value");
            self.server = None;
        }
    }

    fn ask(&mut self, command: &str) -> Result<String, PeerError> {
        let commands = self.commands.as_mut().expect("it is taken on drop only");
        writeln!(commands, "{command}").map_err(PeerError::io("asking the watchdog"))?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).map_err(PeerError::io("asking the watchdog"))?;
        Ok(answer.trim_end().to_owned())
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.commands.take());
        // Afterwards the server is gone and so is its directory.
        let _ = self.shell.wait();
    }
}
