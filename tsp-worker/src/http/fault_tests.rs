//! How the handler fares against servers and addresses that behave badly (docs/reference/http-callbacks.md
//! section 14).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::Instant;
use tsp_consumer_core::{Fence, TaskContext};
use tsp_core::config::{TaskConfig, Timeouts};
use tsp_core::egress::EgressPolicy;
use tsp_core::outcome::{Outcome, RetryDelay, Verdict};
use tsp_core::time::Millis;

use super::fault_server::{FaultServer, OK, Peer};
use super::fixtures::{Seeded, config, context, edit_target, task};
use super::{ClientSettings, HttpHandler, Lookup, LookupAnswer, LookupError};

const SHORT: Millis = Millis::from_ms(200);
pub(super) const BACKOFF: Outcome = Outcome::Retry(RetryDelay::Backoff);

pub(super) fn loopback() -> ClientSettings {
    ClientSettings {
        policy: EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()]),
        ..ClientSettings::default()
    }
}

pub(super) fn handler(settings: &ClientSettings) -> HttpHandler {
    HttpHandler::new(settings, Arc::new(Seeded)).unwrap()
}

pub(super) async fn call(handler: &HttpHandler, config: &TaskConfig) -> Verdict {
    call_while(handler, config, Fence::open()).await
}

pub(super) async fn call_while(handler: &HttpHandler, config: &TaskConfig, fence: Fence) -> Verdict {
    handler.call(&TaskContext { fence, ..context(&task(), config) }).await
}

/// One call to `server` with long time-outs.
async fn call_server(server: &FaultServer) -> Verdict {
    call(&handler(&loopback()), &config(&server.url())).await
}

/// The same with short ones.
async fn call_server_briefly(server: &FaultServer) -> Verdict {
    call(&handler(&loopback()), &briefly(config(&server.url()))).await
}

fn briefly(mut config: TaskConfig) -> TaskConfig {
    config.spec.timeout = Timeouts { connect: SHORT, total: SHORT };
    config
}

#[track_caller]
pub(super) fn assert_verdict(verdict: &Verdict, outcome: Outcome, reason: &str, status: Option<u16>) {
    let seen = (verdict.outcome, &*verdict.reason, verdict.http_status);
    assert_eq!(seen, (outcome, reason, status));
}

#[tokio::test]
async fn a_polite_server_gets_the_payload_and_its_connection_is_used_again() {
    let mut server = FaultServer::answering(OK).await;
    let (handler, config) = (handler(&loopback()), config(&server.url()));
    for _ in 0..3 {
        let verdict = call(&handler, &config).await;
        assert_verdict(&verdict, Outcome::Done, "ok", Some(200));
        assert_eq!(verdict.excerpt.as_deref(), Some("ok"));
    }
    assert_eq!(server.connections(), 1);
    let request = server.requests.recv().await.unwrap();
    assert!(request.starts_with("POST /close HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"order\":42}"), "{request}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for location in ["http://127.0.0.1:9/", "/other"] {
        let answer = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let mut server = FaultServer::answering(answer).await;
        let verdict = call_server(&server).await;
        assert_verdict(&verdict, Outcome::Fail, "redirect_not_followed", Some(302));
        assert_eq!((server.connections(), server.drain_requests()), (1, 1));
    }
}

pub(super) fn found(addresses: &[&str]) -> LookupAnswer {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    LookupAnswer { addresses, ttl: Duration::from_mins(1) }
}

#[tokio::test]
async fn refused_addresses_are_never_connected_to() {
    #[derive(Debug)]
    struct Everything;

    #[async_trait]
    impl Lookup for Everything {
        async fn addresses(&self, _name: &str) -> Result<LookupAnswer, LookupError> {
            Ok(found(&["1.1.1.1", "127.0.0.1"]))
        }
    }

    let server = FaultServer::answering(OK).await;
    let port = server.address.port();
    let strict = handler(&ClientSettings { lookup: Arc::new(Everything), ..ClientSettings::default() });
    let hosts = ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "127.0.0.1.", "0", "mixed.test"];
    for (version, host) in (1..).zip(hosts) {
        let mut config = config(&format!("http://{host}:{port}/"));
        config.version = version;
        assert_verdict(&call(&strict, &config).await, Outcome::Fail, "egress_denied", None);
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn names_lead_to_their_checked_addresses() {
    #[derive(Debug)]
    struct Loopback;

    #[async_trait]
    impl Lookup for Loopback {
        async fn addresses(&self, name: &str) -> Result<LookupAnswer, LookupError> {
            match name {
                "orders.test" => Ok(found(&["127.0.0.1"])),
                _ => Err(LookupError::NotFound),
            }
        }
    }

    let mut server = FaultServer::answering(OK).await;
    let handler = handler(&ClientSettings { lookup: Arc::new(Loopback), ..loopback() });
    let port = server.address.port();
    let mut known = config(&format!("http://orders.test:{port}/"));
    assert_verdict(&call(&handler, &known).await, Outcome::Done, "ok", Some(200));
    let request = server.requests.recv().await.unwrap();
    assert!(request.contains(&format!("\r\nhost: orders.test:{port}\r\n")), "{request}");
    edit_target(&mut known, |target| target.url = format!("http://unknown.test:{port}/"));
    assert_verdict(&call(&handler, &known).await, BACKOFF, "dns", None);
}

#[tokio::test]
async fn nobody_listens() {
    let server = FaultServer::answering(OK).await;
    let config = config(&server.url());
    drop(server);
    tokio::task::yield_now().await;
    assert_verdict(&call(&handler(&loopback()), &config).await, BACKOFF, "connect_refused", None);
}

#[tokio::test]
async fn a_server_that_never_answers() {
    let mut server = FaultServer::start(|mut peer| async move {
        peer.read_request().await;
        peer.wait_for_close().await;
    })
    .await;
    assert_verdict(&call_server_briefly(&server).await, BACKOFF, "timeout", None);
    // The connection is not left behind.
    server.closed.recv().await.unwrap();
}

#[tokio::test]
async fn a_body_that_stalls_or_drips() {
    for drips in [false, true] {
        let server = FaultServer::start(move |mut peer| async move {
            peer.read_request().await;
            peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nx").await;
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            if drips {
                loop {
                    ticks.tick().await;
                    peer.write(b"x").await;
                }
            }
            peer.wait_for_close().await;
        })
        .await;
        // Time enough for the head.
        let mut config = config(&server.url());
        config.spec.timeout.total = Millis::from_secs(1);
        assert_verdict(&call(&handler(&loopback()), &config).await, BACKOFF, "timeout", Some(200));
    }
}

#[tokio::test]
async fn a_flood_of_interim_answers() {
    let server = FaultServer::start(|mut peer| async move {
        peer.read_request().await;
        while tokio::io::AsyncWriteExt::write_all(&mut peer.stream, b"HTTP/1.1 103 Early Hints\r\n\r\n")
            .await
            .is_ok()
        {}
    })
    .await;
    assert_verdict(&call_server_briefly(&server).await, BACKOFF, "timeout", None);
}

#[tokio::test]
async fn a_connection_that_breaks() {
    type Case = (&'static [u8], bool, Option<u16>);
    let cases: [Case; 5] = [
        (b"", false, None),
        (b"", true, None),
        (b"HTTP/1.1 200 OK\r\nconte", false, None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", false, Some(200)),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhal", false, Some(200)),
    ];
    for (answer, reset, status) in cases {
        let mut server = FaultServer::start(move |mut peer| async move {
            peer.read_request().await;
            peer.write(answer).await;
            if reset {
                peer.stream.set_zero_linger().unwrap();
            }
        })
        .await;
        let verdict = call_server(&server).await;
        assert_verdict(&verdict, BACKOFF, "connection_broken", status);
        // The receiver may have acted: nothing is sent twice.
        assert_eq!((server.connections(), server.drain_requests()), (1, 1));
    }
}

#[tokio::test]
async fn a_reset_after_the_head() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let server = FaultServer::start(move |mut peer| {
        let mut gone = gone.clone();
        async move {
            peer.read_request().await;
            peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await;
            gone.changed().await.unwrap();
            peer.stream.set_zero_linger().unwrap();
        }
    })
    .await;
    let (handler, config) = (handler(&loopback()), config(&server.url()));
    let pending = call(&handler, &config);
    let reset = async {
        // After the head has been read: several turns of the runtime.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        go.send(true).unwrap();
    };
    let (verdict, ()) = tokio::join!(pending, reset);
    assert_eq!((verdict.outcome, &*verdict.reason), (BACKOFF, "connection_broken"));
}

#[tokio::test]
async fn what_is_no_http() {
    let mut many = b"HTTP/1.1 200 OK\r\n".to_vec();
    for number in 0..10_000 {
        many.extend_from_slice(format!("x-{number}: y\r\n").as_bytes());
    }
    many.extend_from_slice(b"\r\n");
    let mut long = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    long.resize(100_000, b'y');
    let cases = [
        (b"hello\r\n".to_vec(), None),
        (b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), None),
        (b"HTTP/1.1 abc\r\n\r\n".to_vec(), None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_vec(), None),
        (many, None),
        (long, None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nnonsense".to_vec(), Some(200)),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n".to_vec(), Some(200)),
    ];
    for (answer, status) in cases {
        let start = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
        let server = FaultServer::answering(answer).await;
        let verdict = call_server(&server).await;
        assert_eq!((verdict.outcome, &*verdict.reason), (BACKOFF, "malformed_response"), "{start}");
        assert_eq!(verdict.http_status, status, "{start}");
    }
}

#[tokio::test]
async fn of_a_huge_body_only_the_start_is_read() {
    const TOTAL: usize = 200 * 1024 * 1024;
    let written = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let mut server = FaultServer::start(move |mut peer| {
        let count = Arc::clone(&count);
        async move {
            peer.read_request().await;
            peer.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {TOTAL}\r\n\r\n").as_bytes()).await;
            let part = vec!["é"; 32 * 1024].concat().into_bytes();
            while tokio::io::AsyncWriteExt::write_all(&mut peer.stream, &part).await.is_ok() {
                count.fetch_add(part.len(), std::sync::atomic::Ordering::SeqCst);
            }
        }
    })
    .await;
    let verdict = call_server(&server).await;
    assert_verdict(&verdict, Outcome::Done, "ok", Some(200));
    assert_eq!(verdict.excerpt.unwrap().len(), 4096);
    // The connection is dropped, so the server's writes fail long before the end.
    server.closed.recv().await.unwrap();
    assert!(written.load(std::sync::atomic::Ordering::SeqCst) < TOTAL / 4);
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_silently_replaced() {
    let mut server = FaultServer::start(|mut peer| async move {
        peer.read_request().await;
        peer.write(OK).await;
    })
    .await;
    let (handler, config) = (handler(&loopback()), config(&server.url()));
    for number in 1..=3 {
        assert_verdict(&call(&handler, &config).await, Outcome::Done, "ok", Some(200));
        server.closed.recv().await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!((server.connections(), server.drain_requests()), (number, 1));
    }
}

#[tokio::test]
async fn connections_that_may_not_be_used_again() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nextra",
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    ] {
        let server = FaultServer::answering(answer).await;
        let (handler, config) = (handler(&loopback()), config(&server.url()));
        for _ in 0..2 {
            assert_verdict(&call(&handler, &config).await, Outcome::Done, "ok", Some(200));
        }
        assert_eq!(server.connections(), 2, "{}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn an_upgrade_is_no_success() {
    let server = FaultServer::answering(
        &b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"[..],
    )
    .await;
    assert_verdict(&call_server(&server).await, BACKOFF, "http_status", Some(101));
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    let mut server = FaultServer::answering(OK).await;
    let (handler, config) = (handler(&loopback()), config(&server.url()));
    call(&handler, &config).await;
    let pool = Arc::clone(&handler.prepare(&config).unwrap().pool);
    let now = Instant::now();
    handler.close_idle(now);
    assert_eq!(pool.idle_count(), 1);
    handler.close_idle(now + Duration::from_secs(16));
    assert_eq!(pool.idle_count(), 0);
    server.closed.recv().await.unwrap();
}

pub(super) fn with_test_authority() -> HttpHandler {
    let root = CertificateDer::from_pem_slice(include_bytes!("testdata/ca.pem")).unwrap();
    handler(&ClientSettings { extra_roots: vec![root], ..loopback() })
}

pub(super) async fn serve_tls(peer: Peer, certificate: &'static [u8]) {
    if let Some(mut peer) = peer.accept_tls(certificate).await {
        while peer.read_request().await {
            peer.write(OK).await;
        }
    }
}

#[tokio::test]
async fn tls_with_a_trusted_certificate() {
    let server = FaultServer::start(|peer| serve_tls(peer, include_bytes!("testdata/server.pem"))).await;
    let config = config(&server.url().replace("http:", "https:"));
    let handler = with_test_authority();
    for _ in 0..2 {
        assert_verdict(&call(&handler, &config).await, Outcome::Done, "ok", Some(200));
    }
    assert_eq!(server.connections(), 1);
    // Nobody else trusts it.
    assert_verdict(
        &call(&self::handler(&loopback()), &config).await,
        BACKOFF,
        "tls_error: unknown issuer",
        None,
    );
}

#[tokio::test]
async fn tls_that_fails() {
    let expired = FaultServer::start(|peer| serve_tls(peer, include_bytes!("testdata/expired.pem"))).await;
    let plain = FaultServer::start(|mut peer| async move {
        let mut start = [0; 16];
        tokio::io::AsyncReadExt::read_exact(&mut peer.stream, &mut start).await.unwrap();
        peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let closes = FaultServer::start(|_| async {}).await;
    for (server, reason) in [
        (expired, "tls_error: certificate expired"),
        (plain, "tls_error: the peer does not speak TLS"),
        (closes, "tls_error: broken off during the handshake"),
    ] {
        let config = config(&server.url().replace("http:", "https:"));
        assert_verdict(&call(&with_test_authority(), &config).await, BACKOFF, reason, None);
    }
}

#[tokio::test]
async fn a_hand_shake_that_stalls_is_a_connect_time_out() {
    let server = FaultServer::start(|mut peer| async move { peer.wait_for_close().await }).await;
    let mut config = config(&server.url().replace("http:", "https:"));
    config.spec.timeout.connect = SHORT;
    assert_verdict(&call(&handler(&loopback()), &config).await, BACKOFF, "connect_timeout", None);
}

#[tokio::test]
async fn one_target_that_hangs_does_not_hold_up_the_others() {
    let hangs = FaultServer::start(|mut peer| async move { peer.wait_for_close().await }).await;
    let works = FaultServer::answering(OK).await;
    let handler = handler(&loopback());
    // Ten seconds each.
    let stuck = config(&hangs.url());
    let mut good = config(&works.url());
    good.id = tsp_core::ids::ConfigId::new(2);
    let calls = futures::future::join_all((0..50).map(|_| call(&handler, &good)));
    let all_hang = futures::future::join_all((0..50).map(|_| call(&handler, &stuck)));
    tokio::pin!(calls, all_hang);
    tokio::select! {
        biased;
        verdicts = &mut calls => assert!(verdicts.iter().all(|verdict| verdict.outcome == Outcome::Done)),
        _ = &mut all_hang => panic!("the others waited"),
    }
}
