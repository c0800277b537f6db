//! What can be seen from outside the database.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tsp_core::Timestamp;

use super::Finding;
use crate::settings::{Settings, StoreLocation};
use crate::wiring::beside;
use crate::wiring::descriptors::{Descriptors, hard_limit};
use crate::wiring::offline::serve_lock;

/// 2026-01-01; a machine that was never told the time stands in 1970.
const CLOCK_FROM: Timestamp = Timestamp::from_ms(1_767_225_600_000);
const CLOCK_TO: Timestamp = Timestamp::from_ms(4_102_444_800_000);
/// Below this most calls would wait for a descriptor.
const DESCRIPTORS_LEAST: usize = 256;
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Whether a server runs on the database.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ServerState {
    Nobody,
    /// The lock is held; by this process, as far as it says.
    Somebody(String),
}

pub(super) fn serving(settings: &Settings) -> ServerState {
    match &settings.store.location {
        // Without the file nobody holds it, and looking must not make it.
        StoreLocation::File(path) if beside(path, "lock").exists() => match serve_lock(path) {
            Ok(_) => ServerState::Nobody,
            Err(error) => ServerState::Somebody(error.to_string()),
        },
        _ => ServerState::Nobody,
    }
}

pub(super) fn folder(settings: &Settings) -> Vec<Finding> {
    let StoreLocation::File(path) = &settings.store.location else {
        return vec![Finding::Note {
            what: "the store is in memory".to_owned(),
            to_do:
                "all tasks are gone when the server ends; set `store.url = \"sqlite:tsp.db\"` to keep them"
                    .to_owned(),
        }];
    };
    let folder = folder_of(path);
    let mut findings = vec![writable(&folder)];
    let key = beside(path, "key");
    if settings.store.secret_key.is_none() && path.exists() && !key.exists() {
        findings.push(Finding::Bad {
            what: format!("the key file `{}` is missing", key.display()),
            to_do: "put it back, or set `store.secret_key`: signing secrets cannot be opened without it"
                .to_owned(),
        });
    }
    findings.extend(open_to_others(&key));
    findings
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Tried by doing it: rights, read-only mounts and full disks show no other way.
fn writable(folder: &Path) -> Finding {
    let probe = tempfile::Builder::new().prefix(".tsp-doctor-").tempfile_in(folder);
    match probe.and_then(|mut file| file.write_all(&[0; 4096])) {
        Ok(()) => Finding::Good(format!("`{}` is writable", folder.display())),
        Err(error) => Finding::Bad {
            what: format!("`{}` is not writable: {error}", folder.display()),
            to_do: "make the folder, give this user the right to write, or set `store.url` elsewhere"
                .to_owned(),
        },
    }
}

#[cfg(unix)]
fn open_to_others(key: &Path) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(key).ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| Finding::Bad {
        what: format!("the key file `{}` can be read by other users", key.display()),
        to_do: format!("chmod 600 {}", key.display()),
    })
}

#[cfg(not(unix))]
fn open_to_others(_: &Path) -> Option<Finding> {
    None
}

pub(super) fn server(serving: &ServerState) -> Finding {
    match serving {
        ServerState::Nobody => Finding::Good("none runs on this database".to_owned()),
        ServerState::Somebody(_) => Finding::Good("one runs on this database".to_owned()),
    }
}

pub(super) fn port(settings: &Settings, serving: &ServerState) -> Finding {
    let address = settings.web.listen;
    match TcpListener::bind(address) {
        Ok(_) => Finding::Good(format!("`{address}` is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => in_use(address, serving),
        Err(error) => Finding::Bad {
            what: format!("cannot listen on `{address}`: {error}"),
            to_do: "set `web.listen` to an address of this machine and a port this user may take".to_owned(),
        },
    }
}

fn in_use(address: SocketAddr, serving: &ServerState) -> Finding {
    let ours = is_tsp(address);
    match serving {
        ServerState::Somebody(_) if ours => Finding::Good(format!("`{address}` is in use by the server")),
        _ => Finding::Bad {
            what: format!(
                "`{address}` is in use by {}",
                if ours { "another TSP server" } else { "another program" }
            ),
            to_do: "stop it, or set `web.listen` to another port".to_owned(),
        },
    }
}

/// One plain request: nothing more is needed to know our own.
fn is_tsp(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut address = address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(4096).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).to_ascii_lowercase())
    };
    ask().is_ok_and(|answer| answer.starts_with("http/1.1 200") && answer.contains("x-request-id"))
}

/// What a server that is started from here may hold; one that a supervisor starts has limits of its own.
pub(super) fn descriptors(settings: &Settings) -> Finding {
    judge_descriptors(hard_limit(), settings)
}

fn judge_descriptors(limit: usize, settings: &Settings) -> Finding {
    let Descriptors { api, callbacks, .. } = Descriptors::of(limit, settings);
    let holds = format!("a process started from here may hold {limit} descriptors");
    let to_do = "set `LimitNOFILE=65536` in the unit, `ulimits` in the compose file, or `ulimit -Hn 65536`";
    if limit < DESCRIPTORS_LEAST {
        Finding::bad(format!("{holds}, too few to serve"), to_do)
    } else if callbacks < settings.worker.concurrency {
        let wanted = settings.worker.concurrency;
        let what =
            format!("{holds}: {callbacks} callbacks at once, not {wanted}, and {api} connections to the API");
        Finding::Note { what, to_do: to_do.to_owned() }
    } else {
        Finding::Good(holds)
    }
}

pub(super) fn clock(settings: &Settings, now: Timestamp) -> Finding {
    if now < CLOCK_FROM || now > CLOCK_TO {
        return Finding::Bad {
            what: format!("the machine says it is {now}"),
            to_do: "set the machine's clock: tasks are due by it".to_owned(),
        };
    }
    let StoreLocation::File(path) = &settings.store.location else {
        return Finding::Good(format!("it is {now}"));
    };
    let written = std::fs::metadata(path).and_then(|file| file.modified()).ok();
    let written = written.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let written = written.and_then(|since| i64::try_from(since.as_millis()).ok()).map(Timestamp::from_ms);
    match written {
        Some(written) if written.since(now).ms() > 60_000 => Finding::Bad {
            what: format!("the machine says it is {now}, but the database was written at {written}"),
            to_do: "the clock was set back: set it right, or tasks come late by the difference".to_owned(),
        },
        _ => Finding::Good(format!("it is {now}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_tried_and_left_clean() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(writable(dir.path()), Finding::Good(_)));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(matches!(writable(&dir.path().join("no")), Finding::Bad { .. }));
    }

    #[test]
    fn too_few_descriptors_are_told() {
        let settings = Settings::load(None, &crate::environment::Environment::default(), &[]).unwrap();
        assert!(matches!(judge_descriptors(65_536, &settings), Finding::Good(_)));
        assert!(matches!(judge_descriptors(usize::MAX, &settings), Finding::Good(_)));
        let few = judge_descriptors(1_024, &settings);
        assert!(matches!(&few, Finding::Note { what, .. } if what.contains("not 1024")), "{few:?}");
        assert!(matches!(judge_descriptors(100, &settings), Finding::Bad { .. }));
    }

    #[test]
    fn a_port_in_use_by_others_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let other = std::thread::spawn(move || listener.accept().map(drop));
        let finding = in_use(address, &ServerState::Nobody);
        assert!(
            matches!(&finding, Finding::Bad { what, .. } if what.contains("another program")),
            "{finding:?}"
        );
        drop(other.join());
    }
}
