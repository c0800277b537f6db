//! The beginning of a connection to a scripted nsqd.

use tsp_nsq::{Compression, Producer, PublishError, Secret, TlsConfig, TlsOptions, TlsRoots};

use crate::fake::{FakeNsqd, soon};
use crate::{config, fixed, insist, publish};

const CA: &[u8] = include_bytes!("../data/ca.pem");

fn tls(required: bool) -> TlsConfig {
    TlsConfig::new(&TlsOptions { roots: TlsRoots::Pem(CA.to_vec()), client_cert: None, required }).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_nsqd_without_tls_is_refused_when_tls_is_required() {
    let nsqd = FakeNsqd::start().await;
    let mut config = config();
    config.tls = Some(tls(true));
    config.auth_secret = Some(Secret::new("hunter2"));
    let producer = Producer::start(fixed(&[&nsqd.address()]), config);
    let serve = async {
        loop {
            let mut peer = nsqd.accept().await;
            let request = peer.identify(r#"{"tls_v1": false, "auth_required": true}"#).await;
            assert_eq!(request["tls_v1"], true);
            assert_eq!(peer.closed().await, [""; 0], "not a word more in the clear");
        }
    };
    let outcome = tokio::select! {
        outcome = publish(&producer, "secret") => outcome,
        () = serve => unreachable!(),
    };
    assert!(matches!(outcome, Err(PublishError::Unavailable { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn tls_that_is_not_required_and_compression_are_given_up_when_declined() {
    let nsqd = FakeNsqd::start().await;
    let mut config = config();
    config.tls = Some(tls(false));
    config.compression = Compression::Snappy;
    let producer = Producer::start(fixed(&[&nsqd.address()]), config);
    let (outcome, request) = tokio::join!(publish(&producer, "hi"), async {
        let mut peer = soon(nsqd.accept()).await;
        let request = soon(peer.identify("{}")).await;
        let command = soon(peer.expect("PUB t")).await;
        peer.ack(&command).await;
        request
    });
    outcome.unwrap();
    assert_eq!((&request["tls_v1"], &request["snappy"]), (&true.into(), &true.into()));
}

#[tokio::test(start_paused = true)]
async fn the_secret_is_sent_only_to_an_nsqd_that_asks_for_it() {
    for asks in [true, false] {
        let nsqd = FakeNsqd::start().await;
        let mut config = config();
        config.auth_secret = Some(Secret::new("hunter2"));
        let producer = Producer::start(fixed(&[&nsqd.address()]), config);
        let (outcome, ()) = tokio::join!(publish(&producer, "hi"), async {
            let mut peer = soon(nsqd.accept()).await;
            soon(peer.identify(&format!(r#"{{"auth_required": {asks}}}"#))).await;
            if asks {
                assert_eq!(&soon(peer.expect("AUTH")).await.body[..], b"hunter2");
                peer.heartbeat().await;
                peer.respond(r#"{"identity":"me","identity_url":"","permission_count":1}"#).await;
            }
            let command = soon(peer.expect("PUB t")).await;
            peer.ack(&command).await;
        });
        outcome.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stalls_or_talks_nonsense_is_left_and_tried_again() {
    let nsqd = FakeNsqd::start().await;
    let producer = Producer::start(fixed(&[&nsqd.address()]), config());
    let serve = async {
        // Stalls before and inside its answer, answers what is no answer, refuses.
        let answers: [&[u8]; 5] = [
            b"",
            b"\0\0\0\x06\0\0",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\0\0\0\x06\0\0\0\0{]",
            b"\0\0\0\x0a\0\0\0\x01E_BOOM",
        ];
        for answer in answers {
            let mut peer = nsqd.accept().await;
            peer.expect("IDENTIFY").await;
            peer.send(answer).await;
            assert_eq!(soon(peer.closed()).await, [""; 0]);
        }
        let mut peer = soon(nsqd.publisher()).await;
        let command = soon(peer.expect("PUB t")).await;
        peer.ack(&command).await;
        peer
    };
    let ((), _peer) = tokio::join!(insist(&producer, "hi"), serve);
}
