//! Callbacks of a config with secrets carry Standard Webhooks signatures that a receiver can check.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;
use tsp_core::Millis;

use crate::harness::mode::{DeploymentMode, mode};
use crate::harness::{APP, Arrival, PATIENCE, Reply, Scene, Task, backoff, now};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The signature a receiver expects, by the letter of the standard and with nothing of the service's.
fn signature(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

fn expected(secrets: &[&str], arrival: &Arrival) -> String {
    let (id, timestamp) = (arrival.header("webhook-id"), arrival.header("webhook-timestamp"));
    let all = secrets.iter().map(|secret| signature(secret, id, timestamp, &arrival.body));
    all.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_check_agrees_with_the_published_vector() {
    let signature = signature(OLD, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[tokio::test]
async fn every_attempt_is_signed_anew_and_verifies() {
    let scene = Scene::new().await;
    scene
        .delayed("signed", |config| {
            config.set("signing_secrets", json!([NEW, OLD])).set("retry", backoff(3, "1100ms"))
        })
        .await;
    scene.receiver.script("/signed", vec![Reply::status(500), Reply::ok()]);
    let id = scene.submit(Task::of("signed").payload(json!({ "orderId": "o-1" }))).await;
    let (first, second) = (scene.receiver.nth(1).await, scene.receiver.nth(2).await);
    for arrival in [&first, &second] {
        assert_eq!(arrival.header("webhook-id"), id);
        assert_eq!(arrival.header("webhook-signature"), expected(&[NEW, OLD], arrival), "newest first");
        let timestamp: i64 = arrival.header("webhook-timestamp").parse().unwrap();
        assert!((now().ms() / 1_000 - timestamp).abs() < 30, "{timestamp}");
    }
    assert_ne!(first.header("webhook-timestamp"), second.header("webhook-timestamp"));
}

#[tokio::test]
async fn an_empty_body_is_signed_too() {
    let scene = Scene::new().await;
    scene.delayed("signed", |config| config.set("signing_secrets", json!([NEW]))).await;
    scene.submit(Task::of("signed")).await;
    let arrival = scene.receiver.nth(1).await;
    assert!(arrival.body.is_empty());
    assert_eq!(arrival.header("webhook-signature"), expected(&[NEW], &arrival));
}

/// Submits until a callback is signed with these secrets and no others: at once, or in a cluster when the change
/// has reached the worker, which asks once a second.
async fn comes_signed_with(scene: &Scene, secrets: &[&str]) {
    let deadline = now().plus(Millis::from(PATIENCE));
    loop {
        let seen = scene.receiver.count();
        scene.submit(Task::of("signed")).await;
        let arrival = scene.receiver.nth(seen + 1).await;
        let wanted = (!secrets.is_empty()).then(|| expected(secrets, &arrival));
        if arrival.find("webhook-signature") == wanted.as_deref() {
            return;
        }
        let cluster = mode() == DeploymentMode::Cluster;
        assert!(cluster && now() < deadline, "not signed with {} secrets: {arrival:?}", secrets.len());
    }
}

#[tokio::test]
async fn secrets_are_rotated_and_never_read_back() {
    let scene = Scene::new().await;
    let made = scene.delayed("signed", |config| config.set("signing_secrets", json!([OLD]))).await;
    assert_eq!(made["signing_secret_count"], 1);
    assert!(!made.to_string().contains("whsec_"), "{made}");
    let path = format!("/apps/{APP}/configs/signed");
    let changed = scene.api.patch(&path, &json!({ "signing_secrets": [NEW, OLD] })).await.expect(200);
    assert_eq!(changed["signing_secret_count"], 2);
    comes_signed_with(&scene, &[NEW, OLD]).await;

    // A PUT without them keeps them; an empty list removes them.
    let url = scene.receiver.url("/signed");
    let whole = crate::harness::Config::delayed("signed", &url).json();
    let kept = scene.api.put(&path, &whole).await.expect(200);
    assert_eq!(kept["signing_secret_count"], 2, "{kept:#}");
    let removed = scene.api.patch(&path, &json!({ "signing_secrets": [] })).await.expect(200);
    assert_eq!(removed["signing_secret_count"], 0);
    let read = scene.api.get(&path).await.expect(200).to_string();
    assert!(!read.contains("whsec_") && !read.contains(&NEW[6..]), "{read}");
    comes_signed_with(&scene, &[]).await;

    let mut tsp = scene.tsp;
    tsp.stop().await;
    let stored = tsp.stored_bytes();
    let secret = &NEW.as_bytes()[6..];
    assert!(!stored.windows(secret.len()).any(|part| part == secret), "a secret lies open in the store");
    assert!(!tsp.log().contains(&NEW[6..]), "a secret stands in the log");
}

#[tokio::test]
async fn secret_headers_are_sent_and_never_shown() {
    let scene = Scene::new().await;
    let target = json!({
        "type": "http", "url": scene.receiver.url("/secret"),
        "secret_headers": { "Authorization": "Bearer not-to-be-shown" },
    });
    let made = scene.delayed("secret", |config| config.set("target", target)).await;
    assert!(!made.to_string().contains("not-to-be-shown"), "{made}");
    assert_eq!(made["secret_header_names"].to_string().to_lowercase(), r#"["authorization"]"#, "{made:#}");
    scene.submit(Task::of("secret")).await;
    assert_eq!(scene.receiver.nth(1).await.header("authorization"), "Bearer not-to-be-shown");
}
