//! One server process: start on free ports, wait until it is ready, hurt it, start it again.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;

use crate::watchdog::Watchdog;
use crate::{PeerError, port};

/// For a start, a stop and a pause.
const LIMIT: Duration = Duration::from_secs(30);
/// A start on a slow machine that starts several.
const START_LIMIT: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(10);
/// How often another process may snatch a port before we give up.
const TRIES: usize = 5;

/// How to start one kind of server.
pub(crate) struct Spec<'a> {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    /// Pieces of the log that are all there when it is ready.
    pub(crate) ready: &'static [&'static str],
    pub(crate) ports: usize,
    /// Fills the new directory.
    pub(crate) prepare: &'a dyn Fn(&Path) -> Result<(), PeerError>,
    /// The command line, from the directory and the ports.
    pub(crate) arguments: &'a dyn Fn(&Path, &[u16]) -> Vec<String>,
}

/// A server that was started and may be down.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    ready: &'static [&'static str],
    ports: Vec<u16>,
    dir: PathBuf,
    watchdog: Mutex<Watchdog>,
}

impl Server {
    pub(crate) fn start(spec: &Spec<'_>) -> Result<Self, PeerError> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let server = Self::on_fresh_ports(spec)?;
            match server.begin() {
                Ok(()) => return Ok(server),
                Err(PeerError::NotReady { log, .. }) if tries > 0 && port_was_taken(&log) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn on_fresh_ports(spec: &Spec<'_>) -> Result<Self, PeerError> {
        let ports: Vec<u16> = (0..spec.ports).map(|_| port::free()).collect();
        let dir = tempfile::Builder::new().prefix("peer-").tempdir().map_err(PeerError::io("a directory"))?;
        (spec.prepare)(dir.path())?;
        let arguments = (spec.arguments)(dir.path(), &ports);
        let watchdog = Watchdog::new(dir.path(), &spec.program, &arguments)?;
        Ok(Self {
            name: spec.name,
            ready: spec.ready,
            ports,
            dir: dir.keep(),
            watchdog: Mutex::new(watchdog),
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn port(&self, which: usize) -> u16 {
        self.ports[which]
    }

    /// The process; 0 when it was killed.
    pub(crate) fn pid(&self) -> u32 {
        let pid = self.watchdog.lock().server();
        pid.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// All that the server wrote, over all its starts.
    pub(crate) fn log(&self) -> String {
        self.log_from(0)
    }

    pub(crate) fn kill(&self) {
        self.watchdog.lock().kill();
    }

    /// Stops the process and waits until it stands still.
    pub(crate) fn pause(&self) {
        let watchdog = self.watchdog.lock();
        watchdog.signal(Signal::STOP);
        wait_for(|| watchdog.is_paused() || watchdog.has_ended());
    }

    pub(crate) fn resume(&self) {
        self.watchdog.lock().signal(Signal::CONT);
    }

    /// Asks the server to end, and kills it if it takes too long.
    pub(crate) fn end(&self) {
        let mut watchdog = self.watchdog.lock();
        watchdog.signal(Signal::TERM);
        watchdog.signal(Signal::CONT);
        wait_for(|| watchdog.has_ended());
        watchdog.kill();
    }

    /// Ends what still runs and starts again in the same place.
    pub(crate) fn restart(&self) -> Result<(), PeerError> {
        self.end();
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match self.begin() {
                Err(PeerError::NotReady { log, .. }) if tries > 0 && port_was_taken(&log) => {}
                outcome => return outcome,
            }
        }
    }

    fn begin(&self) -> Result<(), PeerError> {
        let mut watchdog = self.watchdog.lock();
        let begin = std::fs::metadata(self.log_file()).map_or(0, |file| file.len());
        watchdog.start()?;
        let is_ready = || {
            let log = self.log_from(begin);
            self.ready.iter().all(|piece| log.contains(piece))
        };
        wait_within(START_LIMIT, || watchdog.has_ended() || is_ready());
        let why = match (watchdog.has_ended(), is_ready()) {
            (false, true) => return Ok(()),
            (true, _) => "ended".to_owned(),
            (false, false) => format!("was not ready within {} s", START_LIMIT.as_secs()),
        };
        watchdog.kill();
        Err(PeerError::NotReady { server: self.name, why, log: self.log_from(begin) })
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// A log that cannot be read says nothing; the caller reports that the server did not come up.
    fn log_from(&self, begin: u64) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(self.log_file()) {
            let _ = file.seek(SeekFrom::Start(begin)).and_then(|_| file.read_to_end(&mut bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn port_was_taken(log: &str) -> bool {
    log.to_ascii_lowercase().contains("address already in use")
}

/// Polls until it is so or the time is up; the caller looks again if that makes a difference.
pub(crate) fn wait_for(condition: impl Fn() -> bool) {
    wait_within(LIMIT, condition);
}

fn wait_within(limit: Duration, condition: impl Fn() -> bool) {
    let mut waited = Duration::ZERO;
    while !condition() && waited < limit {
        pause();
        waited += POLL;
    }
}

#[expect(clippy::disallowed_methods, reason = "another process does something and has no way to tell us")]
fn pause() {
    std::thread::sleep(POLL);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec<'a>(
        ready: &'static [&'static str],
        arguments: &'a dyn Fn(&Path, &[u16]) -> Vec<String>,
    ) -> Spec<'a> {
        Spec { name: "sh", program: "/bin/sh".into(), ready, ports: 1, prepare: &|_| Ok(()), arguments }
    }

    #[test]
    fn a_taken_port_is_exchanged_for_another() {
        let script =
            r#"[ "$1" = "$2" ] && { echo bind: Address already in use; exit 1; }; echo ready; read x"#;
        let first = Mutex::new(None);
        let arguments = |_: &Path, ports: &[u16]| {
            let first = *first.lock().get_or_insert(ports[0]);
            ["-c", &format!("{script} </dev/zero"), "sh", &ports[0].to_string(), &first.to_string()]
                .map(str::to_owned)
                .to_vec()
        };
        let server = Server::start(&spec(&["ready"], &arguments)).unwrap();
        assert_ne!(Some(server.port(0)), *first.lock());
    }
}
