//! nsqd and nsqlookupd.

use crate::server::{Server, Spec};
use crate::{PeerError, http, program};

const INSTALL: &str = "tools/install-nsq";
const READY: &[&str] = &["TCP: listening on", "HTTP: listening on"];

/// A private nsqd.
#[derive(Debug)]
pub struct Nsqd(Server);

/// A private nsqlookupd.
#[derive(Debug)]
pub struct Nsqlookupd(Server);

impl Nsqd {
    /// Starts one that knows no nsqlookupd.
    pub fn start() -> Result<Self, PeerError> {
        Self::start_with(&[])
    }

    /// Starts one with more arguments, such as `--lookupd-tcp-address=...`; they win over ours.
    pub fn start_with(arguments: &[&str]) -> Result<Self, PeerError> {
        let own = |dir: &std::path::Path| {
            // Its HTTPS port is a fixed one unless it is told to have none.
            vec![format!("--data-path={}", dir.display()), "--https-address=".to_owned()]
        };
        start("nsqd", &own, arguments).map(Self)
    }

    /// Creates the topic and its channel, as must be done before the first publish.
    pub fn create_channel(&self, topic: &str, channel: &str) -> Result<(), PeerError> {
        self.post(&format!("/topic/create?topic={topic}"), b"")?;
        self.post(&format!("/channel/create?topic={topic}&channel={channel}"), b"")?;
        Ok(())
    }
}

impl Nsqlookupd {
    /// Starts one that no nsqd knows yet.
    pub fn start() -> Result<Self, PeerError> {
        Self::start_with(&[])
    }

    /// Starts one with more arguments; they win over ours.
    pub fn start_with(arguments: &[&str]) -> Result<Self, PeerError> {
        start("nsqlookupd", &|_| Vec::new(), arguments).map(Self)
    }
}

/// What both can do.
macro_rules! daemon {
    ($type:ident) => {
        impl $type {
            /// Where it speaks its own protocol, as `127.0.0.1:port`.
            pub fn tcp_address(&self) -> String {
                address(&self.0, TCP)
            }

            /// Where it speaks HTTP, as `127.0.0.1:port`.
            pub fn http_address(&self) -> String {
                address(&self.0, HTTP)
            }

            /// Its process; 0 after [`Self::kill`].
            pub fn pid(&self) -> u32 {
                self.0.pid()
            }

            /// Kills it without a warning and waits until it is gone.
            pub fn kill(&self) {
                self.0.kill();
            }

            /// Stops its process in the middle of whatever it does.
            pub fn pause(&self) {
                self.0.pause();
            }

            /// Lets a paused process go on.
            pub fn resume(&self) {
                self.0.resume();
            }

            /// Starts it again on the same ports and data. One that still runs is asked to end first.
            pub fn restart(&self) -> Result<(), PeerError> {
                self.0.restart()
            }

            /// Asks it to end, waits, and removes its data.
            pub fn stop(self) {
                self.0.end();
            }

            /// All that it wrote so far.
            pub fn log(&self) -> String {
                self.0.log()
            }

            /// The body of the answer to `GET path`; an error unless the status is 200.
            pub fn get(&self, path: &str) -> Result<String, PeerError> {
                http::request(&self.http_address(), "GET", path, b"")
            }

            /// The body of the answer to `POST path`; an error unless the status is 200.
            pub fn post(&self, path: &str, body: &[u8]) -> Result<String, PeerError> {
                http::request(&self.http_address(), "POST", path, body)
            }
        }
    };
}

daemon!(Nsqd);
daemon!(Nsqlookupd);

const TCP: usize = 0;
const HTTP: usize = 1;

fn address(server: &Server, which: usize) -> String {
    format!("127.0.0.1:{}", server.port(which))
}

fn start(
    name: &'static str,
    own: &dyn Fn(&std::path::Path) -> Vec<String>,
    arguments: &[&str],
) -> Result<Server, PeerError> {
    Server::start(&Spec {
        name,
        program: program::find(name, INSTALL)?,
        ready: READY,
        ports: 2,
        prepare: &|_| Ok(()),
        arguments: &|dir, ports| {
            let mut all = own(dir);
            all.push(format!("--tcp-address=127.0.0.1:{}", ports[TCP]));
            all.push(format!("--http-address=127.0.0.1:{}", ports[HTTP]));
            all.push("--broadcast-address=127.0.0.1".to_owned());
            all.extend(arguments.iter().map(|&argument| argument.to_owned()));
            all
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_nsqd_keeps_its_messages_over_a_clean_restart_and_answers_on_the_same_port() {
        let nsqd = Nsqd::start().unwrap();
        nsqd.create_channel("t", "c").unwrap();
        nsqd.post("/pub?topic=t", b"kept").unwrap();
        let (address, pid) = (nsqd.tcp_address(), nsqd.pid());
        nsqd.restart().unwrap();
        assert_eq!(nsqd.tcp_address(), address);
        assert_ne!(nsqd.pid(), pid);
        let stats = nsqd.get("/stats?format=json&include_clients=false&include_mem=false").unwrap();
        assert!(stats.contains(r#""depth":1"#), "{stats}");
    }

    #[test]
    fn a_killed_nsqd_refuses_connections_until_it_is_restarted() {
        let nsqd = Nsqd::start().unwrap();
        nsqd.kill();
        assert_eq!(nsqd.pid(), 0);
        assert!(matches!(nsqd.get("/ping"), Err(PeerError::Io { .. })));
        nsqd.restart().unwrap();
        assert_eq!(nsqd.get("/ping").unwrap(), "OK");
    }

    #[test]
    fn a_paused_nsqd_answers_after_it_is_resumed() {
        let nsqd = Nsqd::start().unwrap();
        nsqd.pause();
        let state = std::fs::read_to_string(format!("/proc/{}/stat", nsqd.pid())).unwrap();
        assert!(state.contains(") T "), "{state}");
        nsqd.resume();
        assert_eq!(nsqd.get("/ping").unwrap(), "OK");
    }

    #[test]
    fn an_nsqlookupd_knows_the_nsqds_that_were_told_of_it() {
        let lookupd = Nsqlookupd::start().unwrap();
        let told = format!("--lookupd-tcp-address={}", lookupd.tcp_address());
        let nsqd = Nsqd::start_with(&[&told]).unwrap();
        nsqd.create_channel("t", "c").unwrap();
        // It registers on a connection of its own, so it is not there at once.
        let port = nsqd.tcp_address().rsplit_once(':').unwrap().1.to_owned();
        let listed = || lookupd.get("/lookup?topic=t").is_ok_and(|answer| answer.contains(&port));
        crate::server::wait_for(listed);
        assert!(listed(), "{}", lookupd.log());
    }

    #[test]
    fn a_server_that_cannot_start_shows_its_log() {
        let error = Nsqd::start_with(&["--no-such-flag"]).unwrap_err().to_string();
        assert!(error.contains("`nsqd` ended") && error.contains("no-such-flag"), "{error}");
    }
}
