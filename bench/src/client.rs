//! A bare HTTP/1.1 client for making load: it must cost little, since it shares the machine with what
//! is measured. It knows only what the service answers with: a `Content-Length`, or no body.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One kept-alive connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    address: String,
    key: String,
    sent: Vec<u8>,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: &str, key: &str) -> Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            address: address.to_owned(),
            key: key.to_owned(),
            sent: Vec::new(),
            read: Vec::new(),
        })
    }

    /// Sends one request and reads its whole answer: the status and the body.
    pub(crate) async fn call(&mut self, method: &str, path: &str, body: &[u8]) -> Result<(u16, &[u8])> {
        self.sent.clear();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            self.key,
            body.len()
        );
        self.sent.extend_from_slice(head.as_bytes());
        self.sent.extend_from_slice(body);
        self.stream.write_all(&self.sent).await?;
        let (status, head, length) = self.read_head().await?;
        while self.read.len() < head + length {
            self.more().await?;
        }
        Ok((status, &self.read[head..head + length]))
    }

    /// A call whose answer must have this status; returns its JSON.
    pub(crate) async fn json(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
        wanted: u16,
    ) -> Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = self.call(method, path, body.as_bytes()).await?;
        let text = String::from_utf8_lossy(answer);
        ensure!(status == wanted, "{method} {path} answered {status}: {text}");
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("{method} {path} answered no JSON: {text}"))
    }

    /// Status, length of the head, length of the body.
    async fn read_head(&mut self) -> Result<(u16, usize, usize)> {
        self.read.clear();
        loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.read[..end]).context("the head is no text")?;
                let status = head.get(9..12).and_then(|text| text.parse().ok());
                let status = status.with_context(|| format!("no status in `{head}`"))?;
                let mut length = 0;
                for line in head.lines().skip(1) {
                    let Some((name, value)) = line.split_once(':') else { continue };
                    if name.eq_ignore_ascii_case("content-length") {
                        length = value.trim().parse().context("the content length is no number")?;
                    } else if name.eq_ignore_ascii_case("transfer-encoding") {
                        bail!("an answer in chunks, which this client does not read: `{head}`");
                    }
                }
                return Ok((status, end + 4, length));
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.read).await?;
        ensure!(read > 0, "the service closed the connection");
        Ok(())
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
