//! Sockets are few: whoever holds many takes none from others, and the service never runs out of them.

use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tsp_core::Millis;

use crate::harness::figures::{metric, percentile, resident_kib};
use crate::harness::process::executable;
use crate::harness::{
    APP, Api, Arrival, BOOTSTRAP_KEY, Config, Gate, Receiver, Reply, Scene, Task, Tsp, in_time, now, only_on,
    turn,
};

/// What many systems give a process.
const FEW: usize = 1_024;
const HOSTS: usize = 1_800;
const SILENT: usize = 1_100;
/// Of a body that is never sent to its end.
const PART: usize = 15 << 20;
/// Of the stream of another tenant.
const TASKS: usize = 200;
const EVERY_MS: i64 = 10;
/// The hosts are called within this time.
const SPREAD_MS: i64 = 1_800;

/// The service again, with `soft` and `hard` descriptors.
async fn limited(tsp: &mut Tsp, soft: usize, hard: usize) {
    tsp.stop().await;
    let mut command = Command::new("sh");
    let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
    command.arg("-c").arg(script).arg(executable()).args(tsp.args());
    tsp.boot_by(command).await;
}

/// The n-th host on loopback, with the config of the same number.
fn host(number: usize) -> String {
    format!("127.1.{}.{}", number / 250, number % 250 + 1)
}

async fn make_hosts(api: &Api, receiver: &Receiver) {
    let made = futures::stream::iter(0..HOSTS).for_each_concurrent(16, |number| async move {
        let url = receiver.url_at(&host(number), "/host");
        api.config(APP, Config::delayed(&format!("host-{number}"), &url)).await;
    });
    in_time("the configs", made).await;
}

async fn call_all_hosts(api: &Api) {
    let start = now().plus(Millis::from_ms(1_000));
    let due = |number: usize| start.plus(Millis::from_ms(i64::try_from(number).unwrap() % SPREAD_MS));
    let tasks: Vec<_> =
        (0..HOSTS).map(|number| Task::of(&format!("host-{number}")).at(due(number)).json()).collect();
    for tasks in tasks.chunks(900) {
        let path = format!("/apps/{APP}/tasks/batch");
        api.post(&path, &json!({ "tasks": tasks })).await.expect(200);
    }
}

/// A steady stream to `/other`; the lateness of each in ms.
async fn stream(scene: &Scene, before: usize) -> Vec<i64> {
    let start = now().plus(Millis::from_ms(1_000));
    let due = |number: usize| start.plus(Millis::from_ms(i64::try_from(number).unwrap() * EVERY_MS));
    let tasks: Vec<_> = (0..TASKS).map(|number| Task::of("other").at(due(number)).json()).collect();
    scene.api.post(&format!("/apps/{APP}/tasks/batch"), &json!({ "tasks": tasks })).await.expect(200);
    scene.receiver.nth_at("/other", before + TASKS).await;
    scene.receiver.at("/other")[before..].iter().map(Arrival::lateness_ms).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_hosts_is_called_with_few_descriptors() {
    only_on!(Embedded, "the limit is that of one process");
    let _machine = turn::alone().await;
    let mut scene = Scene::on(Tsp::start_alone(Tsp::settings()).await).await;
    limited(&mut scene.tsp, FEW, FEW).await;
    let hosts = Receiver::on_all_of_loopback().await;
    make_hosts(&scene.api, &hosts).await;
    scene.delayed("other", |config| config).await;
    let alone = percentile(&stream(&scene, 0).await, 99);

    call_all_hosts(&scene.api).await;
    let beside = percentile(&stream(&scene, TASKS).await, 99);
    hosts.nth(HOSTS).await;
    println!("p99 of another tenant: alone {alone} ms, beside {HOSTS} hosts {beside} ms");

    // And with as many at once as there is room for, each held.
    let gate = Gate::closed();
    hosts.always("/host", Reply::ok().after(&gate));
    let before = hosts.count();
    call_all_hosts(&scene.api).await;
    hosts.nth(before + FEW / 2).await;
    gate.open();
    let arrivals = hosts.until("all of them".to_owned(), move |all| all.len() >= before + HOSTS).await;
    assert_eq!(arrivals.len(), before + HOSTS, "no call came twice");
    assert!(arrivals.iter().all(|arrival| arrival.attempt() == 1), "none failed for want of a descriptor");
    let metrics = scene.tsp.metrics().await;
    assert!(!metrics.contains("tsp_descriptors_exhausted_total{"), "{metrics}");
    assert!(metrics.contains(&format!("tsp_descriptors_limit {FEW}\n")), "{metrics}");
    scene.tsp.has_said("fewer callbacks run at once").await;
}

#[tokio::test]
async fn the_soft_limit_is_raised_to_the_hard_one() {
    only_on!(Embedded, "the limit is that of one process");
    let mut scene = Scene::new().await;
    limited(&mut scene.tsp, 256, 4_096).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", scene.tsp.pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.matches("4096").count(), 2, "{files}");
}

async fn healthy(api: &Api) -> u16 {
    let api = api.without_key();
    let answer = api.try_send(reqwest::Method::GET, "/healthz", &[], None);
    match tokio::time::timeout(Duration::from_secs(20), answer).await {
        Ok(Ok(answer)) => answer.status,
        other => panic!("the API is shut out: {other:?}"),
    }
}

#[tokio::test]
async fn silent_connections_do_not_shut_out_the_api() {
    only_on!(Embedded, "the limit is that of one process");
    let mut scene = Scene::new().await;
    limited(&mut scene.tsp, FEW, FEW).await;
    let address = scene.api.base();
    let address = address.strip_prefix("http://").unwrap().to_owned();
    let mut silent = Vec::new();
    for number in 0..SILENT {
        let mut client = in_time("a connection", TcpStream::connect(&address)).await.unwrap();
        if number % 2 == 1 {
            client.write_all(b"POST /api/v1/apps HTTP/1.1\r\nHost: x\r\nContent-Le").await.unwrap();
        }
        silent.push(client);
        if number % 100 == 99 {
            // A client of its own, which has no connection yet.
            let api = Api::new(BOOTSTRAP_KEY);
            api.set_base(&scene.api.base());
            assert_eq!(healthy(&api).await, 200);
        }
    }
    // The worker is not short of descriptors either.
    scene.delayed("c", |config| config).await;
    let id = scene.submit(Task::of("c")).await;
    assert_eq!(scene.api.wait_for_end(&id, "succeeded").await["attempt"], 1);
    assert!(metric(&scene.api.metrics().await, "tsp_http_connections ") < 300.0);
    drop(silent);
}

/// Sends `head` and `body` before it reads anything.
async fn write_first(api: &Api, head: &str, body: &[u8]) -> String {
    let base = api.base();
    let mut client = TcpStream::connect(base.strip_prefix("http://").unwrap()).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    in_time("the end of the answer", client.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_refusal_reaches_those_who_write_first() {
    let scene = Scene::new().await;
    let head = |path: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {BOOTSTRAP_KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    for (path, length) in [("/api/v1/apps", 1 << 20), (&format!("/api/v1/apps/{APP}/tasks/batch"), 20 << 20)]
    {
        let answer = write_first(&scene.api, &head(path, length), &vec![b' '; length]).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("\"code\":\"too_large\""), "{answer}");
    }
}

#[tokio::test]
async fn a_request_names_one_host() {
    let scene = Scene::new().await;
    for (hosts, good) in
        [("", false), ("Host: a\r\nHost: b\r\n", false), ("Host: a b\r\n", false), ("Host: a\r\n", true)]
    {
        let head = format!("GET /healthz HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        let answer = write_first(&scene.api, &head, b"").await;
        assert_eq!(answer.starts_with("HTTP/1.1 200 "), good, "{answer}");
        if !good {
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"field\":\"Host\""), "{answer}");
        }
    }
    let answer = write_first(&scene.api, "GET /healthz HTTP/1.0\r\n\r\n", b"").await;
    assert!(answer.contains(" 200 "), "{answer}");
}

#[tokio::test]
async fn half_sent_bodies_take_little_memory() {
    only_on!(Embedded, "the memory is that of one process");
    let scene = Scene::new().await;
    let reader = scene.api.key(APP, &["read"]).await;
    let submitter = scene.api.key(APP, &["submit"]).await;
    let base = scene.api.base();
    let before = resident_kib(scene.tsp.pid());
    let part = vec![b' '; PART];
    for (key, most) in [(&reader, 20), (&submitter, 200)] {
        let mut clients = Vec::new();
        for _ in 0..24 {
            let mut client = TcpStream::connect(base.strip_prefix("http://").unwrap()).await.unwrap();
            let head = format!(
                "POST /api/v1/apps/{APP}/tasks/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                16 << 20
            );
            client.write_all(head.as_bytes()).await.unwrap();
            // Who is refused meanwhile may find the connection closed.
            let _ = in_time("a part of a body", client.write_all(&part)).await;
            clients.push(client);
        }
        let taken = resident_kib(scene.tsp.pid()).saturating_sub(before) >> 10;
        println!("24 half-sent bodies take {taken} MiB");
        assert!(taken <= most, "{taken} MiB");
        assert_eq!(healthy(&scene.api).await, 200);
    }
}
