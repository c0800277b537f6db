//! Connections are bounded over all origins, and running out of them makes no failed attempt.

use tokio::sync::watch;
use tsp_core::config::TaskConfig;
use tsp_core::ids::ConfigId;
use tsp_core::outcome::Outcome;
use tsp_core::time::Millis;

use super::fault_server::{FaultServer, OK};
use super::fault_tests::{assert_verdict, call, handler, loopback};
use super::fixtures::{NOW, config};
use super::{ClientSettings, HttpHandler};

fn bounded(connections_max: usize) -> HttpHandler {
    handler(&ClientSettings { connections_max, ..loopback() })
}

/// A config of its own for each server.
fn config_of(number: i64, server: &FaultServer) -> TaskConfig {
    let mut config = config(&server.url());
    config.id = ConfigId::new(number);
    config
}

/// Answers when it is told to.
async fn held() -> (FaultServer, watch::Sender<bool>) {
    let (go, gone) = watch::channel(false);
    let server = FaultServer::start(move |mut peer| {
        let mut gone = gone.clone();
        async move {
            while peer.read_request().await {
                if gone.wait_for(|go| *go).await.is_err() {
                    return;
                }
                peer.write(OK).await;
            }
        }
    })
    .await;
    (server, go)
}

#[tokio::test]
async fn the_connection_that_has_been_idle_for_longest_makes_room() {
    let handler = bounded(2);
    let (mut first, second, third) = (
        FaultServer::answering(OK).await,
        FaultServer::answering(OK).await,
        FaultServer::answering(OK).await,
    );
    let configs = [(1, &first), (2, &second), (3, &third)].map(|(number, server)| config_of(number, server));
    for at in [1, 0, 1, 2, 1] {
        assert_verdict(&call(&handler, &configs[at]).await, Outcome::Done, "ok", Some(200));
    }
    first.closed.recv().await.unwrap();
    let opened = [&first, &second, &third].map(FaultServer::connections);
    assert_eq!(opened, [1, 1, 1], "the second one, used in between, was kept");
    assert_verdict(&call(&handler, &configs[0]).await, Outcome::Done, "ok", Some(200));
    assert_eq!(first.connections(), 2);
}

#[tokio::test]
async fn a_call_gets_the_room_of_one_that_ends() {
    let handler = bounded(1);
    let ((mut busy, go), other) = (held().await, FaultServer::answering(OK).await);
    let (one, two) = (config_of(1, &busy), config_of(2, &other));
    let release = async {
        busy.requests.recv().await.unwrap();
        // The second call waits by now: it is polled before this is woken.
        go.send(true).unwrap();
    };
    let (first, second, ()) = tokio::join!(call(&handler, &one), call(&handler, &two), release);
    assert_verdict(&first, Outcome::Done, "ok", Some(200));
    assert_verdict(&second, Outcome::Done, "ok", Some(200));
}

#[tokio::test]
async fn a_call_without_room_is_put_off_and_no_failed_attempt() {
    let handler = bounded(1);
    let ((mut busy, go), other) = (held().await, FaultServer::answering(OK).await);
    let (one, mut two) = (config_of(1, &busy), config_of(2, &other));
    two.spec.timeout.connect = Millis::from_ms(50);
    let blocked = async {
        busy.requests.recv().await.unwrap();
        let verdict = call(&handler, &two).await;
        go.send(true).unwrap();
        verdict
    };
    let (first, second) = tokio::join!(call(&handler, &one), blocked);
    assert_verdict(&first, Outcome::Done, "ok", Some(200));
    assert_eq!(&*second.reason, "out_of_sockets");
    let Outcome::Snooze { until } = second.outcome else { panic!("{second:?}") };
    assert!((2_000..=4_000).contains(&until.since(NOW).ms()), "{until}");
    assert_eq!(other.connections(), 0);
}
