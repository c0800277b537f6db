//! `cargo run -p peers -- nsqd`: a server by hand, until standard input ends. More arguments go to nsqd or
//! nsqlookupd.

use std::io::Read;

use peers::{MariaDb, Nsqd, Nsqlookupd, PeerError};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let more = arguments.get(1..).unwrap_or_default();
    match arguments.first().copied() {
        Some("mariadb") => serve(MariaDb::start(), |db| format!("{} {}", db.pid(), db.url("mysql"))),
        Some("nsqd") => {
            serve(Nsqd::start_with(more), |d| format!("{} {} {}", d.pid(), d.tcp_address(), d.http_address()))
        }
        Some("nsqlookupd") => serve(Nsqlookupd::start_with(more), |d| {
            format!("{} {} {}", d.pid(), d.tcp_address(), d.http_address())
        }),
        _ => Err("usage: peers mariadb|nsqd|nsqlookupd [ARGUMENT...]".into()),
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
