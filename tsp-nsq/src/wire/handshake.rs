//! From an address to a connection that is ready: dial, `IDENTIFY`, TLS, compression, `AUTH`, `SUB`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::compress::{Compressor, Decompressor};
use super::identify::{self, NegotiatedOptions};
use super::link::Cause;
use super::stream::{CommandWriter, FrameReader};
use super::tls::TlsConfig;
use crate::codec::{Command, Frame, HEARTBEAT, MAGIC, decode};
use crate::config::ClientConfig;
use crate::{Channel, Topic};

/// nsqd's own limit.
const HANDSHAKE: Duration = Duration::from_secs(5);

const OK: &[u8] = b"OK";

/// A connection that is ready.
pub(crate) struct ReadyConnection {
    pub(crate) reader: FrameReader,
    pub(crate) writer: CommandWriter,
    pub(crate) negotiated: NegotiatedOptions,
}

/// Connects to `address` (`host:port`), and subscribes if asked to.
pub(crate) async fn connect(
    address: &str,
    config: &ClientConfig,
    subscribe: Option<(&Topic, &Channel)>,
) -> Result<ReadyConnection, Cause> {
    let stream = match timeout(config.dial_timeout, TcpStream::connect(address)).await {
        Ok(dialled) => dialled.map_err(|error| Cause::Connect(format!("`{address}`: {error}")))?,
        Err(_) => return Err(Cause::Connect(format!("`{address}`: no answer"))),
    };
    stream.set_nodelay(true).map_err(io)?;
    match timeout(HANDSHAKE, shake_hands(stream, address, config, subscribe)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Cause::Handshake(format!("`{address}`: no answer"))),
    }
}

async fn shake_hands(
    mut stream: TcpStream,
    address: &str,
    config: &ClientConfig,
    subscribe: Option<(&Topic, &Channel)>,
) -> Result<ReadyConnection, Cause> {
    let mut hello = BytesMut::from(&MAGIC[..]);
    Command::Identify(identify::request(config)).encode(&mut hello);
    stream.write_all(&hello).await.map_err(io)?;
    let answer = answer_exactly(&mut stream, config.max_frame).await?;
    let negotiated = identify::answer(&answer)
        .map_err(|error| Cause::Handshake(format!("answer to `IDENTIFY`: {error}")))?;

    let mut connected = match &config.tls {
        Some(tls) if negotiated.tls_v1 => {
            let mut secured = secure(stream, address, tls).await?;
            expect_ok(&answer_exactly(&mut secured, config.max_frame).await?)?;
            let (read, write) = tokio::io::split(secured);
            compressed(read, write, negotiated, config)
        }
        Some(tls) if tls.required => {
            return Err(Cause::Handshake("TLS is required, and nsqd offers none".to_owned()));
        }
        _ => {
            let (read, write) = stream.into_split();
            compressed(read, write, negotiated, config)
        }
    };
    if connected.negotiated.snappy || connected.negotiated.deflate {
        expect_ok(&connected.answer().await?)?;
    }
    connected.authenticate(config).await?;
    if let Some((topic, channel)) = subscribe {
        let sub = Command::Sub(topic.clone(), channel.clone());
        expect_ok(&connected.ask(&sub).await?)?;
    }
    Ok(connected)
}

async fn secure(
    stream: TcpStream,
    address: &str,
    tls: &TlsConfig,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Cause> {
    let host = host_of(address);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Cause::Handshake(format!("`{host}` is no name that a certificate can have")))?;
    let connector = TlsConnector::from(tls.rustls.clone());
    connector.connect(name, stream).await.map_err(|error| Cause::Handshake(format!("TLS: {error}")))
}

/// `host` of `host:port`, without the brackets of an IPv6 address.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn compressed(
    read: impl AsyncRead + Send + Unpin + 'static,
    write: impl AsyncWrite + Send + Unpin + 'static,
    negotiated: NegotiatedOptions,
    config: &ClientConfig,
) -> ReadyConnection {
    let (squeeze, unsqueeze) = if negotiated.snappy {
        (Compressor::snappy(), Decompressor::snappy())
    } else if negotiated.deflate {
        (Compressor::deflate(negotiated.deflate_level), Decompressor::deflate())
    } else {
        (Compressor::Plain, Decompressor::Plain)
    };
    ReadyConnection {
        reader: FrameReader::new(read, unsqueeze, config.max_frame),
        writer: CommandWriter::new(write, squeeze),
        negotiated,
    }
}

impl ReadyConnection {
    async fn authenticate(&mut self, config: &ClientConfig) -> Result<(), Cause> {
        if !self.negotiated.auth_required {
            return Ok(());
        }
        let Some(secret) = &config.auth_secret else {
            return Err(Cause::Handshake("nsqd asks for a secret, and none is set".to_owned()));
        };
        let secret = Bytes::copy_from_slice(secret.reveal().as_bytes());
        self.ask(&Command::Auth(secret)).await.map(drop)
    }

    async fn ask(&mut self, command: &Command) -> Result<Bytes, Cause> {
        self.writer.send(command).await.map_err(io)?;
        self.answer().await
    }

    /// The next answer that is no heartbeat.
    async fn answer(&mut self) -> Result<Bytes, Cause> {
        loop {
            let frame = self.reader.recv().await?.ok_or(Cause::Eof)?;
            match answer_of(frame)? {
                Some(data) => return Ok(data),
                None => self.writer.send(&Command::Nop).await.map_err(io)?,
            }
        }
    }
}

/// One answer and not a byte more: what follows belongs to the next layer.
async fn answer_exactly(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    max_frame: usize,
) -> Result<Bytes, Cause> {
    let mut buf = BytesMut::new();
    loop {
        let missing = missing_bytes(&buf);
        let start = buf.len();
        // The first four bytes are the size, which `decode` checks before room is made for the rest.
        buf.resize(start + missing, 0);
        stream.read_exact(&mut buf[start..]).await.map_err(io)?;
        let frame = decode(&mut buf, max_frame).map_err(|error| Cause::Protocol(error.to_string()))?;
        match frame.map(answer_of).transpose()? {
            Some(Some(data)) => return Ok(data),
            Some(None) => stream.write_all(b"NOP\n").await.map_err(io)?,
            None => {}
        }
    }
}

fn missing_bytes(buf: &BytesMut) -> usize {
    match buf.first_chunk() {
        Some(size) => usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX),
        None => 4,
    }
}

/// The data of a response, `None` for a heartbeat.
fn answer_of(frame: Frame) -> Result<Option<Bytes>, Cause> {
    match frame {
        Frame::Response(data) if data == HEARTBEAT => Ok(None),
        Frame::Response(data) => Ok(Some(data)),
        Frame::Error(error) => Err(Cause::Handshake(error.to_string())),
        Frame::Message(_) => Err(Cause::Protocol("a message before `SUB`".to_owned())),
    }
}

fn expect_ok(data: &[u8]) -> Result<(), Cause> {
    if data == OK {
        return Ok(());
    }
    Err(Cause::Handshake(format!("`OK` was expected, not `{}`", data.escape_ascii())))
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn io(error: std::io::Error) -> Cause {
    Cause::Io(error.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[test]
    fn the_name_to_verify_is_the_host() {
        for (address, host) in
            [("nsqd.internal:4150", "nsqd.internal"), ("[::1]:4150", "::1"), ("10.0.0.1:4150", "10.0.0.1")]
        {
            assert_eq!(host_of(address), host);
        }
    }

    #[tokio::test]
    async fn not_a_byte_more_than_the_answer_is_read() {
        let (mut ours, mut theirs) = duplex(256);
        let heartbeat = b"\0\0\0\x0f\0\0\0\0_heartbeat_";
        theirs.write_all(heartbeat).await.expect("open");
        theirs.write_all(b"\0\0\0\x06\0\0\0\0{}next layer").await.expect("open");
        assert_eq!(answer_exactly(&mut ours, 64).await, Ok(Bytes::from_static(b"{}")));
        let (mut nop, mut next) = ([0; 4], [0; 10]);
        theirs.read_exact(&mut nop).await.expect("open");
        ours.read_exact(&mut next).await.expect("open");
        assert_eq!((&nop, &next), (b"NOP\n", b"next layer"));
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_is_refused_by_its_head() {
        let (mut ours, mut theirs) = duplex(256);
        theirs.write_all(b"\x80\0\0\0").await.expect("open");
        let refused = answer_exactly(&mut ours, 64).await.expect_err("too large");
        assert!(matches!(refused, Cause::Protocol(_)), "{refused}");
    }

    #[test]
    fn only_ok_is_ok() {
        assert_eq!(expect_ok(b"OK"), Ok(()));
        assert!(expect_ok(b"OKAY").is_err());
    }
}
