//! TLS, compression and secrets.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use peers::Nsqd;
use serde_json::json;
use tsp_nsq::{
    ClientConfig, Compression, Consumer, ConsumerOptions, Producer, PublishError, Secret, TlsConfig,
    TlsOptions, TlsRoots, Topic,
};

use super::{channel_stats, eventually, number, start_with_channel};
use crate::fake::soon;
use crate::http_stub::HttpStub;
use crate::{channel, config, fixed, publish, topic};

const CA: &[u8] = include_bytes!("../../data/ca.pem");
const OTHER_CA: &[u8] = include_bytes!("../../data/other-ca.pem");

fn tls(ca: &[u8]) -> TlsConfig {
    TlsConfig::new(&TlsOptions { roots: TlsRoots::Pem(ca.to_vec()), client_cert: None, required: true })
        .unwrap()
}

fn nsqd_with_tls() -> Nsqd {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let cert = format!("--tls-cert={}", data.join("nsqd.pem").display());
    let key = format!("--tls-key={}", data.join("nsqd.key").display());
    start_with_channel(&[&cert, &key, "--tls-required=tcp-https"])
}

/// Publishes and receives messages from one byte to nearly the limit, and returns what nsqd says of the consumer.
async fn round_trip(nsqd: &Nsqd, config: &ClientConfig) -> serde_json::Value {
    let nsqds = fixed(&[&nsqd.tcp_address()]);
    let producer = Producer::start(nsqds.clone(), config.clone());
    let consumer = Consumer::start(ConsumerOptions::new(topic(), channel(), nsqds), config.clone());
    for size in [1, 2, 100, 4096, 65_535, 65_536, 300_000, 1_000_000] {
        // Bytes that compress badly, and zeros that compress well.
        let mixed: Vec<u8> =
            (0..size).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
        for body in [Bytes::from(mixed), Bytes::from(vec![0; size as usize])] {
            publish(&producer, body.clone()).await.unwrap();
            let message = soon(consumer.recv()).await.unwrap();
            assert!(message.body == body, "{size} bytes");
            message.finish().unwrap();
        }
    }
    // Many small ones, as they are packed together.
    let bodies: Vec<Bytes> = (0..2000).map(|n| Bytes::from(format!("message {n}"))).collect();
    for outcome in soon(producer.publish_all(&topic(), bodies)).await {
        outcome.unwrap();
    }
    for _ in 0..2000 {
        soon(consumer.recv()).await.unwrap().finish().unwrap();
    }
    let client = channel_stats(nsqd)["clients"][0].clone();
    // A consumer that is still there would be given the messages of the next one.
    soon(consumer.close(Duration::from_secs(5))).await;
    eventually("the consumer is gone", || number(&channel_stats(nsqd), "client_count") == 0).await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_pass_every_way_of_packing_them() {
    let plain = start_with_channel(&[]);
    for (compression, expected) in [
        (Compression::None, [false, false]),
        (Compression::Snappy, [true, false]),
        (Compression::Deflate(6), [false, true]),
    ] {
        let client = round_trip(&plain, &ClientConfig { compression, ..config() }).await;
        assert_eq!(
            [&client["snappy"], &client["deflate"]],
            expected.map(|on| if on { &json!(true) } else { &json!(false) })
        );
        assert_eq!(client["tls"], false);
    }
    let secured = nsqd_with_tls();
    for compression in [Compression::None, Compression::Snappy, Compression::Deflate(1)] {
        let client =
            round_trip(&secured, &ClientConfig { compression, tls: Some(tls(CA)), ..config() }).await;
        assert_eq!(client["tls"], true);
        assert_eq!(client["snappy"], compression == Compression::Snappy);
    }
}

async fn is_unavailable(nsqd: &Nsqd, config: ClientConfig) -> bool {
    let producer = Producer::start(fixed(&[&nsqd.tcp_address()]), config);
    let outcome = publish(&producer, "hi").await;
    matches!(outcome, Err(PublishError::Unavailable { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_authority_is_refused() {
    let nsqd = nsqd_with_tls();
    assert!(is_unavailable(&nsqd, ClientConfig { tls: Some(tls(OTHER_CA)), ..config() }).await);
    assert!(!is_unavailable(&nsqd, ClientConfig { tls: Some(tls(CA)), ..config() }).await);
    assert!(is_unavailable(&start_with_channel(&[]), ClientConfig { tls: Some(tls(CA)), ..config() }).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_opens_what_the_authority_grants_it() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let authority = HttpStub::at(
        "127.0.0.1:0",
        Arc::new(move |path: &str| {
            log.lock().unwrap().push(path.to_owned());
            if !path.contains("secret=hunter2") {
                return ("403 Forbidden", json!({}));
            }
            let grant =
                json!({ "topic": "^t$", "channels": [".*"], "permissions": ["subscribe", "publish"] });
            (
                "200 OK",
                json!({ "ttl": 3600, "identity": "me", "identity_url": "", "authorizations": [grant] }),
            )
        }),
    )
    .await;
    let nsqd = start_with_channel(&[&format!("--auth-http-address={}", authority.address)]);
    let with = |secret: &str| ClientConfig { auth_secret: Some(Secret::new(secret)), ..config() };
    assert!(is_unavailable(&nsqd, config()).await);
    assert!(asked.lock().unwrap().is_empty());
    assert!(is_unavailable(&nsqd, with("wrong")).await);
    assert!(!asked.lock().unwrap().is_empty());

    round_trip(&nsqd, &with("hunter2")).await;
    let producer = Producer::start(fixed(&[&nsqd.tcp_address()]), with("hunter2"));
    let other = Topic::new("other").unwrap();
    let outcome = soon(producer.publish(&other, Bytes::from_static(b"hi"))).await;
    assert!(
        matches!(&outcome, Err(PublishError::Refused { code, .. }) if code == "E_UNAUTHORIZED"),
        "{outcome:?}"
    );
    publish(&producer, "hi").await.unwrap();
}
