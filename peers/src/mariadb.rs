//! MariaDB.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::server::{Server, Spec};
use crate::{PeerError, program, template};

pub(crate) const INSTALL: &str = "tools/install-mariadb";
const READY: &[&str] = &["ready for connections", "port: "];
/// The system's limit on the path of a socket.
const SOCKET_PATH: usize = 107;
/// A database's name.
const NAME: usize = 64;
/// Who our URLs say they are. `root` is for [`MariaDb::sql`].
const ACCOUNT: &str = "CREATE USER IF NOT EXISTS 'tsp'@'127.0.0.1' IDENTIFIED BY 'tsp';\n\
                       GRANT ALL ON *.* TO 'tsp'@'127.0.0.1' WITH GRANT OPTION;\n";

/// The options of a server of one's own.
#[derive(Debug, Clone)]
pub struct MariaDbOptions {
    /// `innodb_flush_log_at_trx_commit`: 1 syncs at each commit, 2 once a second.
    pub flush_log_at_commit: u8,
    /// `innodb_buffer_pool_size`, in MiB.
    pub buffer_pool_mib: u32,
    /// More arguments; they win over ours.
    pub more: Vec<String>,
}

impl Default for MariaDbOptions {
    fn default() -> Self {
        Self { flush_log_at_commit: 2, buffer_pool_mib: 128, more: Vec::new() }
    }
}

/// A private MariaDB server.
#[derive(Debug)]
pub struct MariaDb {
    server: Server,
}

impl MariaDb {
    /// Starts one for tests: commits are not synced to the disk.
    pub fn start() -> Result<Self, PeerError> {
        Self::start_with(&MariaDbOptions::default())
    }

    /// Starts one.
    pub fn start_with(options: &MariaDbOptions) -> Result<Self, PeerError> {
        Self::start_on(options, None)
    }

    /// Starts one that keeps its data in `place`, an empty folder that stays when the server goes: such as a disk
    /// of a size of its own.
    pub fn start_in(options: &MariaDbOptions, place: &Path) -> Result<Self, PeerError> {
        Self::start_on(options, Some(place))
    }

    fn start_on(options: &MariaDbOptions, place: Option<&Path>) -> Result<Self, PeerError> {
        let data = |dir: &Path| place.unwrap_or(dir).join("data");
        let mariadbd = program::find("mariadbd", INSTALL)?;
        let server = Server::start(&Spec {
            name: "mariadbd",
            program: mariadbd.clone(),
            ready: READY,
            ports: 1,
            prepare: &|dir| prepare(dir, &data(dir), &mariadbd),
            arguments: &|dir, ports| arguments(dir, &data(dir), ports[0], options),
        })?;
        Ok(Self { server })
    }

    /// The one server of this process, for tests that do not hurt it: started by its first user, ended with the
    /// process.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<MariaDb> = OnceLock::new();
        SHARED.get_or_init(|| Self::start().unwrap_or_else(|error| panic!("{error}")))
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port(0)
    }

    /// The URL of one of its databases, for a user who may do everything.
    pub fn url(&self, database: &str) -> String {
        format!("mysql://tsp:tsp@127.0.0.1:{}/{database}?ssl-mode=disabled", self.port())
    }

    /// Creates an empty database, in utf8mb4 with binary order, and returns its name: the hint and what makes it
    /// unique on this server.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub fn create_database(&self, name_hint: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let hint: String = name_hint.chars().map(plain).take(NAME - unique.len()).collect();
        let name = hint + &unique;
        self.sql(&format!("CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"))
            .unwrap_or_else(|error| panic!("{error}"));
        name
    }

    /// Runs statements through the command line client as root, over the socket. Returns the rows: columns
    /// separated by tabs, without names.
    pub fn sql(&self, text: &str) -> Result<String, PeerError> {
        let client = program::find("mariadb", INSTALL)?;
        let mut command = Command::new(client);
        command.args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"]);
        command.arg(format!("--socket={}", socket(self.server.dir())));
        program::run(command.args(["--execute", text]))
    }

    /// Its process; 0 after [`Self::kill`].
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Kills it without a warning and waits until it is gone.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Stops its process in the middle of whatever it does.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        self.server.resume();
    }

    /// Starts it again on the same port and data. One that still runs is asked to end first.
    pub fn restart(&self) -> Result<(), PeerError> {
        self.server.restart()
    }

    /// Asks it to end, waits, and removes its data.
    pub fn stop(self) {
        self.server.end();
    }

    /// All that it wrote so far.
    pub fn log(&self) -> String {
        self.server.log()
    }
}

fn prepare(dir: &Path, data: &Path, mariadbd: &Path) -> Result<(), PeerError> {
    let socket = socket(dir);
    if socket.len() > SOCKET_PATH {
        let said = format!("it is longer than {SOCKET_PATH} bytes; set TMPDIR to a shorter path");
        return Err(PeerError::Refused { request: format!("a socket at {socket}"), said });
    }
    std::fs::write(dir.join("init.sql"), ACCOUNT).map_err(PeerError::io("writing init.sql"))?;
    template::copy_to(data, mariadbd)
}

fn socket(dir: &Path) -> String {
    dir.join("s.sock").display().to_string()
}

fn arguments(dir: &Path, data: &Path, port: u16, options: &MariaDbOptions) -> Vec<String> {
    let at = |name: &str| dir.join(name).display().to_string();
    let mut all = vec!["--no-defaults".to_owned()];
    all.extend(template::user().map(str::to_owned));
    all.extend([
        format!("--datadir={}", data.display()),
        format!("--tmpdir={}", dir.display()),
        format!("--socket={}", socket(dir)),
        format!("--pid-file={}", at("pid")),
        format!("--init-file={}", at("init.sql")),
        format!("--port={port}"),
        format!("--innodb-flush-log-at-trx-commit={}", options.flush_log_at_commit),
        format!("--innodb-buffer-pool-size={}M", options.buffer_pool_mib),
    ]);
    let fixed = [
        "--bind-address=127.0.0.1",
        "--skip-log-bin",
        "--skip-name-resolve",
        "--performance-schema=OFF",
        "--max-prepared-stmt-count=1000000",
        "--max-connections=500",
        template::LOG_FILE_SIZE,
    ];
    all.extend(fixed.map(str::to_owned));
    all.extend(options.more.iter().cloned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_outlives_a_kill() {
        let db = MariaDb::start().unwrap();
        let name = db.create_database("Kept over-a kill");
        assert!(name.starts_with("kept_over_a_kill_"), "{name}");
        db.sql(&format!("CREATE TABLE {name}.t (n INT); INSERT INTO {name}.t VALUES (7)")).unwrap();
        let (port, dir) = (db.port(), db.server.dir().to_owned());
        db.kill();
        assert_eq!(db.pid(), 0);
        assert!(matches!(db.sql("SELECT 1"), Err(PeerError::Refused { .. })));
        db.restart().unwrap();
        assert_eq!(db.port(), port);
        assert_eq!(db.sql(&format!("SELECT n FROM {name}.t")).unwrap(), "7\n");
        db.stop();
        assert!(!dir.exists());
    }

    #[test]
    fn the_url_is_one_that_the_server_lets_in() {
        let db = MariaDb::shared();
        let name = db.create_database("url");
        assert_eq!(
            db.url(&name),
            format!("mysql://tsp:tsp@127.0.0.1:{}/{name}?ssl-mode=disabled", db.port())
        );
        let client = program::find("mariadb", INSTALL).unwrap();
        let mut command = Command::new(client);
        command.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=tsp", "--password=tsp"]);
        command.arg(format!("--port={}", db.port())).args(["--batch", "--skip-column-names"]);
        let said = program::run(command.args(["--execute", "SELECT @@collation_database", &name])).unwrap();
        assert_eq!(said, "utf8mb4_bin\n");
    }

    #[test]
    fn options_reach_the_server() {
        let more = vec!["--max-connections=77".to_owned()];
        let db = MariaDb::start_with(&MariaDbOptions { flush_log_at_commit: 1, buffer_pool_mib: 64, more });
        let values = "SELECT @@innodb_flush_log_at_trx_commit, @@innodb_buffer_pool_size, @@max_connections, \
                      @@max_prepared_stmt_count, @@performance_schema";
        assert_eq!(db.unwrap().sql(values).unwrap(), "1\t67108864\t77\t1000000\t0\n");
    }

    #[test]
    fn data_may_lie_elsewhere() {
        let place = tempfile::tempdir().unwrap();
        let db = MariaDb::start_in(&MariaDbOptions::default(), place.path()).unwrap();
        let name = db.create_database("elsewhere");
        assert!(place.path().join("data").join(name).is_dir());
        db.restart().unwrap();
        db.stop();
        assert!(place.path().join("data").is_dir(), "it is the caller's");
    }

    #[test]
    fn a_paused_server_answers_after_it_is_resumed() {
        let db = MariaDb::start().unwrap();
        db.pause();
        let state = std::fs::read_to_string(format!("/proc/{}/stat", db.pid())).unwrap();
        assert!(state.contains(") T "), "{state}");
        db.resume();
        assert_eq!(db.sql("SELECT 1").unwrap(), "1\n");
    }
}
