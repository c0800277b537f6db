//! `cargo run -p peers -- nsqd`: a server by hand, until standard input ends.

use std::io::Read;

use peers::{MariaDb, Nsqd, Nsqlookupd, PeerError};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("mariadb") => serve(MariaDb::start(), |db| format!("{} {}", db.pid(), db.url("mysql"))),
        Some("nsqd") => {
            serve(Nsqd::start(), |d| format!("{} {} {}", d.pid(), d.tcp_address(), d.http_address()))
        }
        Some("nsqlookupd") => {
            serve(Nsqlookupd::start(), |d| format!("{} {} {}", d.pid(), d.tcp_address(), d.http_address()))
        }
        _ => Err("usage: peers mariadb|nsqd|nsqlookupd".into()),
    }
}

fn serve<S>(
    server: Result<S, PeerError>,
    line: impl Fn(&S) -> String,
) -> Result<(), Box<dyn std::error::Error>> {
    let server = server?;
    println!("{}", line(&server));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
