//! A view of the servers of NSQ that needs none of them to be right: each is asked on its own, shortly.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tsp_core::Name;
use tsp_nsq::http::{LookupdHttp, NsqdHttp};

use super::names::{queue_topic, worker_channel};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The protocol, and a command that there is not: nsqd answers with an error, others do not.
const HELLO: &[u8] = b"  V2LOOK\n";

/// An nsqd, as its HTTP port tells it.
#[derive(Debug, Clone)]
pub struct NsqdView {
    /// `host:port` of its TCP port.
    pub tcp: String,
    /// Why it does not speak the protocol there, if so.
    pub no_tcp: Option<String>,
    /// What `/stats` says, or why not.
    pub found: Result<NsqdFacts, String>,
}

#[derive(Debug, Clone, Default)]
pub struct NsqdFacts {
    pub version: String,
    /// `OK`, or what nsqd says is wrong with it.
    pub health: String,
    /// Of the queue.
    pub depth: i64,
    pub in_flight: i64,
    pub consumers: i64,
    /// Somebody has paused the topic or its channel.
    pub paused: bool,
    /// Channels of the queue that are not its workers': each would get, and keep, every message.
    pub foreign: Vec<String>,
}

/// Looks at an nsqd by the addresses of its two ports.
pub async fn diagnose_nsqd(tcp: &str, http: &str, queue: &Name) -> NsqdView {
    let (no_tcp, found) = tokio::join!(speaks(tcp), facts(http, queue));
    NsqdView { tcp: tcp.to_owned(), no_tcp: no_tcp.err(), found }
}

async fn within<T, E: ToString>(ask: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match timeout(PATIENCE, ask).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

async fn speaks(tcp: &str) -> Result<(), String> {
    let answer = within(async {
        let mut stream = TcpStream::connect(tcp).await?;
        stream.write_all(HELLO).await?;
        // Length and kind of a frame; kind 1 is an error.
        let mut head = [0; 8];
        stream.read_exact(&mut head).await.map(|_| head)
    });
    match answer.await? {
        [_, _, _, _, 0, 0, 0, 1] => Ok(()),
        _ => Err("it does not speak the protocol of nsqd".to_owned()),
    }
}

async fn facts(http: &str, queue: &Name) -> Result<NsqdFacts, String> {
    let topic = queue_topic(queue).map_err(|error| error.to_string())?;
    // Of all topics: asked for one that is not there yet, nsqd answers with none at all.
    let stats = within(NsqdHttp::new(http).stats(None, None)).await?;
    let mut facts = NsqdFacts { version: stats.version, health: stats.health, ..NsqdFacts::default() };
    let worker = worker_channel();
    for of_topic in stats.topics.iter().filter(|of_topic| of_topic.name == topic.as_str()) {
        facts.depth += of_topic.depth;
        facts.paused |= of_topic.paused;
        for channel in &of_topic.channels {
            if channel.name != worker.as_str() {
                facts.foreign.push(channel.name.clone());
                continue;
            }
            facts.depth += channel.depth;
            facts.in_flight += channel.in_flight_count;
            facts.consumers += channel.client_count;
            facts.paused |= channel.paused;
        }
    }
    Ok(facts)
}

/// The nsqds that an nsqlookupd knows, as `(tcp, http)`.
///
/// # Errors
/// Why it did not answer.
pub async fn diagnose_lookupd(http: &str) -> Result<BTreeSet<(String, String)>, String> {
    let nodes = within(LookupdHttp::new(http).nodes()).await?;
    Ok(nodes.iter().map(|node| (node.address(), node.http_address())).collect())
}
