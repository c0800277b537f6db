//! One name at one name server: both families over one socket, so that a name that nobody answers for costs one
//! descriptor.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep_until};

use crate::http::LookupAnswer;

/// A datagram may be lost.
const RESEND_AFTER: Duration = Duration::from_millis(500);
/// How long an answer with addresses waits for that of the other family (RFC 8305 section 3).
const OTHER_FAMILY_WAIT: Duration = Duration::from_millis(50);
/// Without EDNS an answer has at most 512 bytes, but not every server keeps to it.
const DATAGRAM_BYTES: usize = 4_096;
const ALIASES_MAX: usize = 16;

/// The addresses of an absolute name, none if it has none. An error says that the server cannot tell. It waits for
/// as long as the caller does.
pub(super) async fn ask(server: SocketAddr, name: &Name) -> io::Result<LookupAnswer> {
    let local: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // The port is a new one of the system's choice: with the number of the query it is what tells an answer from a
    // forged one.
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;
    let mut questions = [Question::new(name, RecordType::A)?, Question::new(name, RecordType::AAAA)?];
    let mut datagram = vec![0; DATAGRAM_BYTES];
    let (mut resend_at, mut settle_at) = (Instant::now(), None);
    loop {
        tokio::select! {
            biased;
            received = socket.recv(&mut datagram) => {
                accept(&mut questions, &datagram[..received?], server).await?;
                if let Some(found) = verdict(&questions) {
                    return Ok(found);
                }
                let some = questions.iter().any(|question| question.answer.as_ref().is_some_and(Answer::has_any));
                settle_at = settle_at.or(some.then(|| Instant::now() + OTHER_FAMILY_WAIT));
            }
            () = sleep_until(settle_at.unwrap_or(resend_at)), if settle_at.is_some() => {
                return Ok(together(&questions));
            }
            () = sleep_until(resend_at) => {
                resend_at = Instant::now() + RESEND_AFTER;
                for question in questions.iter().filter(|question| question.answer.is_none()) {
                    socket.send(&question.bytes).await?;
                }
            }
        }
    }
}

struct Question {
    message: Message,
    bytes: Vec<u8>,
    answer: Option<Answer>,
}

enum Answer {
    Addresses { addresses: Vec<IpAddr>, ttl: u32 },
    NoSuchName,
}

impl Answer {
    fn has_any(&self) -> bool {
        matches!(self, Self::Addresses { addresses, .. } if !addresses.is_empty())
    }
}

impl Question {
    fn new(name: &Name, kind: RecordType) -> io::Result<Self> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(name.clone(), kind));
        let bytes = message.to_vec().map_err(io::Error::other)?;
        Ok(Self { message, bytes, answer: None })
    }

    fn is_answered_by(&self, message: &Message) -> bool {
        message.metadata.id == self.message.metadata.id
            && message.metadata.message_type == MessageType::Response
            && message.queries == self.message.queries
    }

    /// The addresses at the end of the aliases, as far as the answer tells.
    fn read(&self, message: &Message) -> io::Result<Answer> {
        match message.metadata.response_code {
            ResponseCode::NoError => {}
            ResponseCode::NXDomain => return Ok(Answer::NoSuchName),
            code => return Err(io::Error::other(format!("the name server answers `{code}`"))),
        }
        let mut ttl = u32::MAX;
        let mut owner = self.message.queries.first().map(|query| &query.name);
        for _ in 0..ALIASES_MAX {
            let alias = message.answers.iter().find_map(|record| match &record.data {
                RData::CNAME(alias) if Some(&record.name) == owner => Some((&alias.0, record.ttl)),
                _ => None,
            });
            let Some((target, lives)) = alias else { break };
            (owner, ttl) = (Some(target), ttl.min(lives));
        }
        let mut addresses = Vec::new();
        for record in message.answers.iter().filter(|record| Some(&record.name) == owner) {
            let Some(address) = record.data.ip_addr() else { continue };
            addresses.push(address);
            ttl = ttl.min(record.ttl);
        }
        Ok(Answer::Addresses { addresses, ttl })
    }
}

/// Takes in a datagram; what answers no question of ours is skipped.
async fn accept(questions: &mut [Question; 2], datagram: &[u8], server: SocketAddr) -> io::Result<()> {
    let Ok(message) = Message::from_vec(datagram) else { return Ok(()) };
    let open =
        questions.iter_mut().find(|question| question.answer.is_none() && question.is_answered_by(&message));
    let Some(question) = open else { return Ok(()) };
    question.answer = Some(if message.metadata.truncation {
        let whole = over_tcp(server, &question.bytes).await?;
        let whole = Message::from_vec(&whole).map_err(io::Error::other)?;
        if !question.is_answered_by(&whole) {
            return Err(io::Error::other("the name server answers another question"));
        }
        question.read(&whole)?
    } else {
        question.read(&message)?
    });
    Ok(())
}

/// What is known, once no answer that is still out could change it.
fn verdict(questions: &[Question; 2]) -> Option<LookupAnswer> {
    let no_such_name = matches!(questions[0].answer, Some(Answer::NoSuchName));
    let complete = questions.iter().all(|question| question.answer.is_some());
    // Some servers deny the name itself for a family that they do not know, but not for the older one.
    (complete || no_such_name).then(|| together(questions))
}

fn together(questions: &[Question; 2]) -> LookupAnswer {
    let mut found = LookupAnswer { addresses: Vec::new(), ttl: Duration::MAX };
    for question in questions {
        if let Some(Answer::Addresses { addresses, ttl }) = &question.answer
            && !addresses.is_empty()
        {
            found.addresses.extend(addresses);
            found.ttl = found.ttl.min(Duration::from_secs((*ttl).into()));
        }
    }
    found
}

async fn over_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = u16::try_from(query.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
