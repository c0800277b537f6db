//! A name server that answers as a test tells it, over UDP and TCP on one port of loopback.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;

/// Short, so that a test sees names looked up again.
const TTL: u32 = 1;
/// Ports of UDP and TCP are given out apart, so the second one may be taken.
const PORTS_TRIED: usize = 20;

/// What becomes of a question.
#[derive(Debug, Clone)]
pub enum NameAnswer {
    /// Those of the family that was asked for; none of them is "no such data".
    Addresses(Vec<IpAddr>),
    /// Over TCP only: over UDP the answer is cut.
    TooLong(Vec<IpAddr>),
    /// Another name for one that has these.
    Alias(&'static str, Vec<IpAddr>),
    NoSuchName,
    Failure,
    Silence,
}

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

type Decide = dyn Fn(&str, Family) -> NameAnswer + Send + Sync;

struct ServerState {
    decide: Box<Decide>,
    asked: Mutex<Vec<(String, Family)>>,
    stopping: AtomicBool,
}

/// A running name server. Dropping it stops it.
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<ServerState>,
    threads: Vec<JoinHandle<()>>,
}

impl NameServer {
    /// `decide` is asked for each question, with the name without its final full stop.
    pub fn start(decide: impl Fn(&str, Family) -> NameAnswer + Send + Sync + 'static) -> io::Result<Self> {
        let (datagrams, streams) = sockets()?;
        let address = datagrams.local_addr()?;
        let shared = Arc::new(ServerState {
            decide: Box::new(decide),
            asked: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let (of_udp, of_tcp) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || of_udp.serve_udp(&datagrams)),
            thread::spawn(move || of_tcp.serve_tcp(&streams)),
        ];
        Ok(Self { address, shared, threads })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All questions so far.
    pub fn asked(&self) -> Vec<(String, Family)> {
        self.shared.asked.lock().clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Both wait for somebody to come.
        let _ =
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.send_to(&[], self.address));
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for NameServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NameServer({})", self.address)
    }
}

fn sockets() -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = None;
    for _ in 0..PORTS_TRIED {
        let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        match TcpListener::bind(datagrams.local_addr()?) {
            Ok(streams) => return Ok((datagrams, streams)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no port")))
}

impl ServerState {
    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4_096];
        while !self.stopping.load(Ordering::SeqCst) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            if let Some(answer) = self.answer(&buffer[..length], false) {
                let _ = socket.send_to(&answer, from);
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        while !self.stopping.load(Ordering::SeqCst) {
            let Ok((stream, _)) = listener.accept() else { continue };
            let _ = self.serve_stream(stream);
        }
    }

    fn serve_stream(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut question)?;
        let Some(answer) = self.answer(&question, true) else { return Ok(()) };
        stream.write_all(&u16::try_from(answer.len()).map_err(io::Error::other)?.to_be_bytes())?;
        stream.write_all(&answer)
    }

    fn answer(&self, question: &[u8], whole: bool) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).ok()?;
        let query = question.queries.first()?.clone();
        let family = match query.query_type {
            RecordType::AAAA => Family::V6,
            _ => Family::V4,
        };
        let name = query.name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        self.asked.lock().push((name.clone(), family));
        let mut message = Message::response(question.metadata.id, question.metadata.op_code);
        message.add_query(query.clone());
        match (self.decide)(&name, family) {
            NameAnswer::Silence => return None,
            NameAnswer::NoSuchName => message.metadata.response_code = ResponseCode::NXDomain,
            NameAnswer::Failure => message.metadata.response_code = ResponseCode::ServFail,
            NameAnswer::TooLong(_) if !whole => message.metadata.truncation = true,
            NameAnswer::Addresses(all) | NameAnswer::TooLong(all) => {
                add(&mut message, &query.name, &all, family);
            }
            NameAnswer::Alias(target, all) => {
                let target = Name::from_ascii(target).ok()?;
                message.add_answer(Record::from_rdata(
                    query.name.clone(),
                    TTL,
                    RData::CNAME(CNAME(target.clone())),
                ));
                add(&mut message, &target, &all, family);
            }
        }
        message.to_vec().ok()
    }
}

fn add(message: &mut Message, owner: &Name, addresses: &[IpAddr], family: Family) {
    for address in addresses.iter().filter(|address| address.is_ipv6() == (family == Family::V6)) {
        message.add_answer(Record::from_rdata(owner.clone(), TTL, RData::from(*address)));
    }
}
