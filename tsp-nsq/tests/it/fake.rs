//! A scripted nsqd: the test itself is the server, and says what each connection receives.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a fake nsqd saw and said, over all its connections.
#[derive(Debug, Default)]
pub(crate) struct NsqdRecord {
    pub(crate) connections: usize,
    /// Bodies of PUB and MPUB.
    pub(crate) published: Vec<Bytes>,
    /// Those that were answered with OK.
    pub(crate) acked: usize,
    pub(crate) finished: Vec<String>,
    pub(crate) requeued: Vec<String>,
    pub(crate) touched: Vec<String>,
    pub(crate) ready: Vec<u32>,
    pub(crate) closes: usize,
    pub(crate) nops: usize,
    pub(crate) heartbeats: usize,
}

impl NsqdRecord {
    fn count(&mut self, command: &Command) {
        let argument = || command.line.split(' ').nth(1).unwrap_or_default().to_owned();
        match command.name() {
            "PUB" | "MPUB" => self.published.extend(command.bodies()),
            "FIN" => self.finished.push(argument()),
            "REQ" => self.requeued.push(argument()),
            "TOUCH" => self.touched.push(argument()),
            "RDY" => self.ready.push(argument().parse().unwrap()),
            "CLS" => self.closes += 1,
            "NOP" => self.nops += 1,
            _ => {}
        }
    }

    /// Bodies that came more than once.
    pub(crate) fn duplicates(&self) -> usize {
        self.published.len() - self.published.iter().collect::<BTreeSet<_>>().len()
    }
}

/// One command of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) line: String,
    pub(crate) body: Bytes,
}

impl Command {
    pub(crate) fn name(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// The messages of a PUB or MPUB.
    pub(crate) fn bodies(&self) -> Vec<Bytes> {
        if self.name() == "PUB" {
            return vec![self.body.clone()];
        }
        let mut rest = self.body.clone();
        let count = rest.get_u32();
        let bodies = (0..count).map(|_| {
            let length = rest.get_u32() as usize;
            rest.split_to(length)
        });
        bodies.collect()
    }

    /// Takes the first whole command from what has arrived.
    fn parse(buffer: &mut BytesMut) -> Option<Self> {
        let end = buffer.iter().position(|&byte| byte == b'\n')?;
        let line = String::from_utf8(buffer[..end].to_vec()).expect("commands are text");
        let has_body = ["PUB ", "MPUB ", "IDENTIFY", "AUTH"].iter().any(|name| line.starts_with(name));
        if !has_body {
            buffer.advance(end + 1);
            return Some(Self { line, body: Bytes::new() });
        }
        let mut rest = &buffer[end + 1..];
        let length = rest.try_get_u32().ok()? as usize;
        if rest.len() < length {
            return None;
        }
        buffer.advance(end + 1 + 4);
        let body = buffer.split_to(length).freeze();
        Some(Self { line, body })
    }
}

/// A listener whose connections the test plays by hand.
#[derive(Debug)]
pub(crate) struct FakeNsqd {
    listener: TcpListener,
    pub(crate) seen: Arc<Mutex<NsqdRecord>>,
}

impl FakeNsqd {
    pub(crate) async fn start() -> Self {
        Self::at("127.0.0.1:0").await
    }

    /// Listens where another one listened before.
    pub(crate) async fn at(address: &str) -> Self {
        Self { listener: TcpListener::bind(address).await.unwrap(), seen: Arc::default() }
    }

    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// The next connection, after its four magic bytes.
    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        self.seen.lock().unwrap().connections += 1;
        let mut peer = Peer { stream, buffer: BytesMut::new(), seen: Arc::clone(&self.seen), silent: 0 };
        let mut magic = [0; 4];
        peer.stream.read_exact(&mut magic).await.unwrap();
        assert_eq!(&magic, b"  V2");
        peer
    }

    /// The next connection, identified.
    pub(crate) async fn publisher(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.identify("{}").await;
        peer
    }

    /// The next connection, subscribed to channel `c` of topic `t` and ready for messages.
    pub(crate) async fn subscriber(&self) -> (Peer, u32) {
        let mut peer = self.publisher().await;
        peer.expect("SUB t c").await;
        peer.respond("OK").await;
        let ready = peer.ready().await;
        (peer, ready)
    }
}

/// The server's end of one connection.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: TcpStream,
    buffer: BytesMut,
    seen: Arc<Mutex<NsqdRecord>>,
    /// Heartbeats since the last command.
    pub(crate) silent: usize,
}

impl Peer {
    /// The client's next command; `None` when it has closed the connection. May be dropped and called again.
    pub(crate) async fn command(&mut self) -> Option<Command> {
        loop {
            if let Some(command) = Command::parse(&mut self.buffer) {
                self.seen.lock().unwrap().count(&command);
                self.silent = 0;
                return Some(command);
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next command other than NOP, which must begin with `line`.
    pub(crate) async fn expect(&mut self, line: &str) -> Command {
        loop {
            let command = self.command().await.unwrap_or_else(|| panic!("the end, not `{line}`"));
            if command.name() != "NOP" || line == "NOP" {
                assert!(command.line.starts_with(line), "`{}`, not `{line}`", command.line);
                return command;
            }
        }
    }

    /// The value of the next command, which must be RDY.
    pub(crate) async fn ready(&mut self) -> u32 {
        self.expect("RDY ").await.line[4..].parse().unwrap()
    }

    /// Waits for the client to close the connection, and closes it too. Returns what was said before.
    pub(crate) async fn closed(mut self) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(command) = self.command().await {
            said.push(command.line);
        }
        said
    }

    /// Reads IDENTIFY and answers with nsqd's defaults, changed by the object `changes`. Returns the request.
    pub(crate) async fn identify(&mut self, changes: &str) -> serde_json::Value {
        let request = self.expect("IDENTIFY").await;
        let request: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let mut answer = serde_json::json!({
            "max_rdy_count": 2500, "version": "1.3.0", "max_msg_timeout": 900_000, "msg_timeout": 60_000,
            "tls_v1": false, "deflate": false, "deflate_level": 0, "max_deflate_level": 6, "snappy": false,
            "sample_rate": 0, "auth_required": false, "output_buffer_size": 16384, "output_buffer_timeout": 250,
        });
        let changes: serde_json::Map<String, serde_json::Value> = serde_json::from_str(changes).unwrap();
        answer.as_object_mut().unwrap().extend(changes);
        self.respond(&answer.to_string()).await;
        request
    }

    pub(crate) async fn respond(&mut self, text: &str) {
        self.send(&frame(0, text.as_bytes())).await;
    }

    /// Answers a PUB or MPUB with OK.
    pub(crate) async fn ack(&mut self, command: &Command) {
        self.seen.lock().unwrap().acked += command.bodies().len();
        self.respond("OK").await;
    }

    /// Sends an error frame; closing, where the code asks for it, is up to the test.
    pub(crate) async fn refuse(&mut self, text: &str) {
        self.send(&frame(1, text.as_bytes())).await;
    }

    pub(crate) async fn heartbeat(&mut self) {
        self.seen.lock().unwrap().heartbeats += 1;
        self.silent += 1;
        self.respond("_heartbeat_").await;
    }

    /// Delivers a message whose id is made of `id`.
    pub(crate) async fn deliver(&mut self, id: u64, attempts: u16, body: &[u8]) {
        self.send(&message(id, attempts, body)).await;
    }

    /// Sends bytes as they are. A client that is gone does not get them.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Makes the end of the connection a reset, as when a process is killed.
    pub(crate) fn reset(&self) {
        self.stream.set_zero_linger().unwrap();
    }
}

/// The wire's form of message id `id`.
pub(crate) fn message_id(id: u64) -> String {
    format!("{id:016x}")
}

pub(crate) fn message(id: u64, attempts: u16, body: &[u8]) -> Vec<u8> {
    let timestamp = 1_700_000_000_000_000_000_i64;
    let id = message_id(id);
    frame(2, &[&timestamp.to_be_bytes()[..], &attempts.to_be_bytes(), id.as_bytes(), body].concat())
}

pub(crate) fn frame(kind: u32, data: &[u8]) -> Vec<u8> {
    let size = u32::try_from(4 + data.len()).unwrap();
    [&size.to_be_bytes()[..], &kind.to_be_bytes(), data].concat()
}

/// What must come soon. Under a paused clock this is virtual time, and as good as no limit for what only waits
/// for bytes.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it takes too long")
}
