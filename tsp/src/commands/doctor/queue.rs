//! What can be seen of NSQ.

use std::collections::BTreeSet;

use futures::future::join_all;
use tsp_core::Name;

use super::Finding;
use crate::settings::{NsqSettings, QueueSettings};
use crate::wiring::cluster::offline::{NsqdView, diagnose_lookupd, diagnose_nsqd};

/// Asks each server of the settings, and each nsqd that lookupd knows.
pub(super) async fn look(settings: &QueueSettings, queue: Option<Name>) -> Vec<Finding> {
    let (QueueSettings::Nsq(nsq), Some(queue)) = (settings, queue) else {
        return vec![Finding::bad("there is none", "set `queue.url = \"nsq:\"`")];
    };
    let (mut findings, found) = lookupds(nsq).await;
    if !nsq.lookupd_http.is_empty() && found.is_empty() && findings.iter().any(Finding::is_good) {
        findings.push(Finding::bad(
            "no lookupd knows any nsqd, and workers find them there",
            "start nsqd with `--lookupd-tcp-address`; or leave `queue.nsq.lookupd_http` empty and list all nsqd",
        ));
    }
    let listed = nsq.nsqd_tcp.iter().cloned().zip(nsq.nsqd_http.iter().cloned());
    let servers: BTreeSet<(String, String)> = listed.chain(found).collect();
    if servers.is_empty() {
        findings.push(Finding::bad(
            "no nsqd is known",
            "start one with `--lookupd-tcp-address`, or name it in `queue.nsq.nsqd_tcp`",
        ));
    }
    let looks = servers.iter().map(|(tcp, http)| diagnose_nsqd(tcp, http, &queue));
    let views = join_all(looks).await;
    let consumers: i64 =
        views.iter().filter_map(|view| view.found.as_ref().ok()).map(|facts| facts.consumers).sum();
    for view in &views {
        findings.extend(nsqd(view, consumers));
    }
    findings
}

async fn lookupds(nsq: &NsqSettings) -> (Vec<Finding>, BTreeSet<(String, String)>) {
    let (mut findings, mut all) = (Vec::new(), BTreeSet::new());
    let answers = join_all(nsq.lookupd_http.iter().map(|address| diagnose_lookupd(address))).await;
    for (address, answer) in nsq.lookupd_http.iter().zip(answers) {
        match answer {
            Ok(nodes) => {
                findings.push(Finding::Good(format!("lookupd `{address}` knows {} nsqd", nodes.len())));
                all.extend(nodes);
            }
            Err(why) => findings.push(Finding::bad(
                format!("lookupd `{address}` cannot be asked: {why}"),
                "start it, or set `queue.nsq.lookupd_http` right (the HTTP port, 4161)",
            )),
        }
    }
    (findings, all)
}

fn nsqd(view: &NsqdView, all_consumers: i64) -> Vec<Finding> {
    let NsqdView { tcp, no_tcp, found } = view;
    let mut findings = Vec::new();
    if let Some(why) = no_tcp {
        findings.push(Finding::bad(
            format!("nsqd `{tcp}` cannot be spoken to: {why}"),
            "start it, or set `queue.nsq.nsqd_tcp` right; if lookupd gave the address, set nsqd's \
             `--broadcast-address` to one that this machine reaches",
        ));
    }
    let facts = match found {
        Ok(facts) => facts,
        Err(why) => {
            findings.push(Finding::bad(
                format!("the HTTP port of nsqd `{tcp}` does not answer: {why}"),
                "the depth of the queue is read there: set `queue.nsq.nsqd_http` right (4151)",
            ));
            return findings;
        }
    };
    if facts.health != "OK" {
        findings.push(Finding::bad(
            format!("nsqd `{tcp}` says: {}", facts.health),
            "see its log; mostly its disk is full",
        ));
    }
    if facts.paused {
        findings.push(Finding::bad(
            format!("the queue is paused at nsqd `{tcp}`"),
            "unpause topic and channel there (`/topic/unpause`, `/channel/unpause`); pause configs instead",
        ));
    }
    for channel in &facts.foreign {
        findings.push(Finding::bad(
            format!("channel `{channel}` at nsqd `{tcp}` gets each message of the queue, too"),
            "delete it (`/channel/delete`): a queue has one kind of consumer",
        ));
    }
    if findings.is_empty() {
        let (depth, in_flight) = (facts.depth, facts.in_flight);
        findings.push(Finding::Good(format!(
            "nsqd `{tcp}`: {}, {depth} waiting, {in_flight} in flight, {} connections of workers",
            facts.version, facts.consumers
        )));
    }
    if all_consumers > 0 && facts.consumers == 0 && facts.depth > 0 {
        findings.push(Finding::Note {
            what: format!("{} messages wait at nsqd `{tcp}`, which no worker is connected to", facts.depth),
            to_do:
                "give workers the same `queue.nsq` settings; the messages are sent again elsewhere in time"
                    .to_owned(),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use tsp_queue::nsq::NsqdFacts;

    use super::*;

    #[test]
    fn what_is_wrong_with_a_server_is_told_with_what_to_do() {
        let facts =
            NsqdFacts { version: "1.3.0".to_owned(), health: "OK".to_owned(), ..NsqdFacts::default() };
        let view = |facts| NsqdView { tcp: "q:4150".to_owned(), no_tcp: None, found: Ok(facts) };
        assert!(matches!(&nsqd(&view(facts.clone()), 0)[..], [Finding::Good(_)]));
        for (wrong, said) in [
            (NsqdFacts { health: "NOK - disk".to_owned(), ..facts.clone() }, "says: NOK - disk"),
            (NsqdFacts { paused: true, ..facts.clone() }, "paused"),
            (NsqdFacts { foreign: vec!["spy".to_owned()], ..facts.clone() }, "`spy`"),
        ] {
            let findings = nsqd(&view(wrong), 0);
            assert!(
                matches!(&findings[..], [Finding::Bad { what, .. }] if what.contains(said)),
                "{findings:?}"
            );
        }
        let deaf = NsqdView { no_tcp: Some("refused".to_owned()), ..view(facts.clone()) };
        assert!(matches!(&nsqd(&deaf, 0)[..], [Finding::Bad { what, .. }] if what.contains("refused")));
        let lonely = nsqd(&view(NsqdFacts { depth: 3, ..facts }), 2);
        assert!(
            matches!(&lonely[..], [_, Finding::Note { what, .. }] if what.contains("3 messages")),
            "{lonely:?}"
        );
    }
}
