//! Against a real name server on loopback.

use std::net::UdpSocket;

use peers::{Family, NameAnswer, NameServer};
use tokio::time::timeout;

use super::*;

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn server(decide: impl Fn(&str, Family) -> NameAnswer + Send + Sync + 'static) -> NameServer {
    NameServer::start(decide).unwrap()
}

fn addresses(texts: &[&str]) -> NameAnswer {
    NameAnswer::Addresses(ips(texts))
}

/// A look-up that knows no file of this machine.
fn lookup(servers: &[&NameServer]) -> SystemLookup {
    SystemLookup {
        conf: WatchedFile::new("/nowhere", Conf::parse),
        hosts: WatchedFile::new("/nowhere", Hosts::parse),
        ..SystemLookup::new(servers.iter().map(|server| server.address()).collect())
    }
}

#[tokio::test]
async fn both_families_are_asked_for_and_aliases_are_followed() {
    let server = server(|name, _| match name {
        "both.test" => addresses(&["1.1.1.1", "2606:4700::1"]),
        "alias.test" => NameAnswer::Alias("real.test.", ips(&["1.0.0.1"])),
        "no-such-data.test" => addresses(&[]),
        _ => NameAnswer::NoSuchName,
    });
    let lookup = lookup(&[&server]);
    let found = lookup.addresses("both.test").await.unwrap();
    assert_eq!((found.addresses, found.ttl), (ips(&["1.1.1.1", "2606:4700::1"]), Duration::from_secs(1)));
    assert_eq!(lookup.addresses("alias.test").await.unwrap().addresses, ips(&["1.0.0.1"]));
    for name in ["no-such-data.test", "no-such-name.test"] {
        assert!(matches!(lookup.addresses(name).await, Err(LookupError::NotFound)), "{name}");
    }
}

#[tokio::test]
async fn a_cut_answer_is_asked_for_again_over_tcp() {
    let server = server(|_, _| NameAnswer::TooLong(ips(&["1.1.1.1", "2606:4700::1"])));
    let found = lookup(&[&server]).addresses("large.test").await.unwrap();
    assert_eq!(found.addresses, ips(&["1.1.1.1", "2606:4700::1"]));
}

#[tokio::test]
async fn a_server_that_is_silent_to_one_family_is_not_waited_for() {
    let server = server(|_, family| match family {
        Family::V4 => addresses(&["1.1.1.1"]),
        Family::V6 => NameAnswer::Silence,
    });
    // Without that family it would wait for as long as we do.
    let lookup = lookup(&[&server]);
    let found = timeout(Duration::from_secs(30), lookup.addresses("old.test")).await.expect("it goes on");
    assert_eq!(found.unwrap().addresses, ips(&["1.1.1.1"]));
}

#[tokio::test]
async fn a_server_that_cannot_tell_or_is_not_there_is_passed_over_and_remembered() {
    let failing = server(|_, _| NameAnswer::Failure);
    let good = server(|_, _| addresses(&["1.1.1.1"]));
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut lookup = lookup(&[&failing, &good]);
    lookup.servers.insert(0, gone);
    assert!(lookup.addresses("a.test").await.is_ok());
    let asked = failing.asked().len();
    assert!(lookup.addresses("b.test").await.is_ok());
    assert_eq!(failing.asked().len(), asked, "the one that answered comes first");

    let nobody = SystemLookup { servers: vec![gone, failing.address()], ..self::lookup(&[]) };
    assert!(matches!(nobody.addresses("a.test").await, Err(LookupError::Failed(_))));
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again_and_a_silent_server_gets_company() {
    let lossy = server({
        let seen = AtomicUsize::new(0);
        move |_, _| match seen.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => NameAnswer::Silence,
            _ => addresses(&["1.1.1.1"]),
        }
    });
    assert!(lookup(&[&lossy]).addresses("a.test").await.is_ok());
    let silent = server(|_, _| NameAnswer::Silence);
    let good = server(|_, _| addresses(&["1.1.1.1"]));
    assert!(lookup(&[&silent, &good]).addresses("a.test").await.is_ok());
}

#[tokio::test]
async fn the_search_list_is_gone_through_and_hosts_come_first() {
    let server = server(|name, _| match name {
        "orders.svc.test" => addresses(&["10.0.0.1"]),
        _ => NameAnswer::NoSuchName,
    });
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let lookup = SystemLookup {
        conf: WatchedFile::new(
            file("resolv.conf", "search ns.svc.test svc.test\noptions ndots:2"),
            Conf::parse,
        ),
        hosts: WatchedFile::new(file("hosts", "10.0.0.2 listed.test"), Hosts::parse),
        ..lookup(&[&server])
    };
    assert_eq!(lookup.addresses("orders").await.unwrap().addresses, ips(&["10.0.0.1"]));
    let asked: Vec<String> = server.asked().into_iter().map(|(name, _)| name).collect();
    assert!(!asked.contains(&"orders".to_owned()), "{asked:?}");
    assert_eq!(lookup.known("listed.test."), Some(ips(&["10.0.0.2"])));
    assert_eq!(lookup.known("localhost"), Some(ips(&["127.0.0.1"])));
    assert_eq!(lookup.known("a.localhost"), Some(ips(&["127.0.0.1"])));
    assert_eq!(lookup.known("orders"), None);
}

#[test]
fn a_look_up_needs_no_thread_that_may_block() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.unwrap().block_on(async {
        let (held, holds) = std::sync::mpsc::channel::<()>();
        let other = tokio::task::spawn_blocking(move || holds.recv().is_err());
        let server = server(|_, _| addresses(&["1.1.1.1"]));
        let lookup = lookup(&[&server]);
        let looked_up = timeout(Duration::from_secs(30), lookup.addresses("a.test"));
        assert!(looked_up.await.is_ok_and(|found| found.is_ok()));
        drop(held);
        other.await.unwrap();
    });
}
