//! A server does not outlive the process that started it, however that process ends.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Starts a process that starts a server, and returns it with what it says of the server.
fn holder(server: &str) -> (Child, Vec<String>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_peers"))
        .arg(server)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.split_whitespace().map(str::to_owned).collect())
}

/// The private directory, from the server's own command line.
fn directory(pid: &str) -> String {
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let option = line.split('\0').find_map(|argument| argument.strip_prefix("--data-path=")).unwrap();
    option.to_owned()
}

fn is_gone_soon(directory: &str) -> bool {
    let wait = r#"while [ -e "$1" ]; do sleep 0.02; done"#;
    Command::new("timeout").args(["10", "sh", "-c", wait, "sh", directory]).status().unwrap().success()
}

#[test]
fn a_killed_process_takes_its_server_and_the_data_along() {
    let (mut child, said) = holder("nsqd");
    let [pid, address, _] = said.as_slice() else { panic!("{said:?}") };
    let directory = directory(pid);
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // The end of the connection is the end of the server; it says nothing to a client that is silent.
    let end = connection.read(&mut [0; 1]);
    assert!(matches!(&end, Ok(0)) || end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    assert!(is_gone_soon(&directory), "{directory}");
}

#[test]
fn a_process_that_ends_well_leaves_nothing_either() {
    let (mut child, said) = holder("nsqd");
    let directory = directory(&said[0]);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(!std::path::Path::new(&directory).exists());
}
