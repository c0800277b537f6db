//! Private authorities, client certificates, and what is reported when TLS fails.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::config::{Secret, TargetTls, TaskConfig};
use tsp_core::outcome::Outcome;

use super::fault_server::{FaultServer, OK};
use super::fault_tests::{
    BACKOFF, assert_verdict, call, found, handler, loopback, serve_tls, with_test_authority,
};
use super::fixtures::{config, edit_target};
use super::{ClientSettings, Lookup, LookupAnswer, LookupError, check_tls, read_ca_file};

const CA: &str = include_str!("testdata/ca.pem");
/// Good for both sides.
const CERT: &str = include_str!("testdata/server.pem");
const KEY: &str = include_str!("testdata/server.key");

fn secure(server: &FaultServer) -> TaskConfig {
    config(&server.url().replace("http:", "https:"))
}

fn with_tls(mut config: TaskConfig, tls: TargetTls) -> TaskConfig {
    edit_target(&mut config, |target| target.tls = Some(tls));
    config
}

fn ca() -> TargetTls {
    TargetTls { ca: Some(CA.to_owned()), ..TargetTls::default() }
}

fn identity() -> TargetTls {
    TargetTls { cert: Some(CERT.to_owned()), key: Some(Secret::new(KEY)), ..ca() }
}

#[tokio::test]
async fn a_targets_own_authority_is_trusted_for_it_alone() {
    let server = FaultServer::start(|peer| serve_tls(peer, CERT.as_bytes())).await;
    let handler = handler(&loopback());
    let plain = secure(&server);
    let own = with_tls(plain.clone(), ca());
    for _ in 0..2 {
        assert_verdict(&call(&handler, &own).await, Outcome::Done, "ok", Some(200));
    }
    assert_eq!(server.connections(), 1);
    // Another target at the same place does not get its connection.
    let mut other = plain;
    other.id = tsp_core::ids::ConfigId::new(2);
    assert_verdict(&call(&handler, &other).await, BACKOFF, "tls_error: unknown issuer", None);
}

#[tokio::test]
async fn a_targets_own_authority_takes_the_place_of_all_others() {
    let server = FaultServer::start(|peer| serve_tls(peer, CERT.as_bytes())).await;
    // A certificate is an authority for nothing but itself: none of the right ones is left.
    let own = with_tls(
        secure(&server),
        TargetTls { ca: Some(include_str!("testdata/expired.pem").to_owned()), ..ca() },
    );
    assert_verdict(&call(&with_test_authority(), &own).await, BACKOFF, "tls_error: unknown issuer", None);
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let server = FaultServer::start(|peer| async move {
        if let Some(mut peer) = peer.accept_mutual_tls(CERT.as_bytes(), CA.as_bytes()).await {
            while peer.read_request().await {
                peer.write(OK).await;
            }
        }
    })
    .await;
    let handler = with_test_authority();
    let with = with_tls(secure(&server), identity());
    assert_verdict(&call(&handler, &with).await, Outcome::Done, "ok", Some(200));
    let mut without = secure(&server);
    without.id = tsp_core::ids::ConfigId::new(2);
    // In TLS 1.3 the refusal comes after the handshake, in place of an answer.
    assert_verdict(&call(&handler, &without).await, BACKOFF, "tls_error: client certificate required", None);
}

#[tokio::test]
async fn a_certificate_for_another_name() {
    #[derive(Debug)]
    struct Loopback;

    #[async_trait]
    impl Lookup for Loopback {
        async fn addresses(&self, _name: &str) -> Result<LookupAnswer, LookupError> {
            Ok(found(&["127.0.0.1"]))
        }
    }

    let server = FaultServer::start(|peer| serve_tls(peer, CERT.as_bytes())).await;
    let handler = handler(&ClientSettings { lookup: Arc::new(Loopback), ..loopback() });
    let target = config(&format!("https://other.test:{}/", server.address.port()));
    let verdict = call(&handler, &with_tls(target, ca())).await;
    assert_verdict(&verdict, BACKOFF, "tls_error: certificate for another name", None);
}

#[test]
fn certificates_are_checked_before_they_are_saved() {
    assert_eq!(check_tls(&identity()), Ok(()));
    assert_eq!(check_tls(&ca()), Ok(()));
    let other = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    let key = |text| Some(Secret::new(text));
    for (wrong, field) in [
        (TargetTls { ca: Some("no PEM".to_owned()), ..ca() }, "ca"),
        (TargetTls { ca: Some(KEY.to_owned()), ..ca() }, "ca"),
        (TargetTls { key: None, ..identity() }, "key"),
        (TargetTls { key: key(CERT), ..identity() }, "key"),
        (TargetTls { key: key(other), ..identity() }, "key"),
        (TargetTls { cert: None, ..identity() }, "cert"),
        (TargetTls { cert: Some("x".to_owned()), ..identity() }, "cert"),
    ] {
        let problem = check_tls(&wrong).unwrap_err();
        assert_eq!(problem.field, field, "{problem:?}");
        assert!(!problem.message.contains("MIG"), "a secret is shown: {problem:?}");
    }
    assert_eq!(read_ca_file(CA.as_bytes()).unwrap().len(), 1);
    assert!(read_ca_file(b"").is_err());
}
