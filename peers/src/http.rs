//! Just enough HTTP to ask a server on this machine: one request, one answer, close.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::PeerError;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends one request and returns the body of a 200 answer.
pub(crate) fn request(address: &str, method: &str, path: &str, body: &[u8]) -> Result<String, PeerError> {
    let request = format!("{method} http://{address}{path}");
    let answer = exchange(address, method, path, body).map_err(PeerError::io(request.clone()))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        return Ok(body.to_owned());
    }
    Err(PeerError::Refused { request, said: format!("{status} {body}") })
}

fn exchange(address: &str, method: &str, path: &str, body: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // With 1.0 the answer ends with the connection and is not cut into chunks.
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
