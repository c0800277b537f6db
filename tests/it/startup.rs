//! Starts that cannot be: wrong settings, a port in use, a folder that cannot be written, a second
//! process on one file, a full disk. Each says what is wrong, and nothing accepted is lost.

use serde_json::json;
use tokio::net::TcpListener;

use crate::harness::disk::SmallDisk;
use crate::harness::process::{ProcessExit, run};
use crate::harness::{APP, BOOTSTRAP_KEY, Scene, Task, TempDir, Tsp, only_on};

/// Starts the service with these settings; it must end by itself with an error that names `subject`.
async fn fails(dir: &TempDir, environment: &[(&str, &str)], subject: &str) -> ProcessExit {
    let url = format!("sqlite:{}", dir.join("tsp.db").display());
    let mut all = vec![
        ("TSP__WEB__LISTEN", "127.0.0.1:0"),
        ("TSP__STORE__URL", url.as_str()),
        ("TSP__AUTH__BOOTSTRAP_KEY", BOOTSTRAP_KEY),
    ];
    all.extend_from_slice(environment);
    let ended = run(&["serve"], &all).await;
    assert!(ended.code.is_some_and(|code| code != 0), "it ended well: {ended:?}");
    assert!(ended.stderr.contains(subject), "the error does not name `{subject}`: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    assert!(!ended.stdout.contains("ready"), "{ended:?}");
    ended
}

#[tokio::test]
async fn a_wrong_setting_is_named() {
    let dir = TempDir::new();
    let cases = [
        ("TSP__WEB__LISTEN", "nowhere", "listen"),
        ("TSP__STORE__URL", "postgres://x", "url"),
        ("TSP__STORE__SYNCHRONOUS", "maybe", "synchronous"),
        ("TSP__STORE__SHARDS", "0", "shards"),
        ("TSP__AUTH__BOOTSTRAP_KEY", "short", "bootstrap_key"),
        ("TSP__WORKER__CONCURRENCY", "0", "concurrency"),
        ("TSP__WORKER__CONCURRENCY", "many", "concurrency"),
        ("TSP__WORKER__SHUTDOWN_GRACE", "5 parsecs", "shutdown_grace"),
        ("TSP__WORKER__HTTP__ALLOW_NETWORKS", "10.0.0.0/99", "allow_networks"),
        ("TSP__NODE__LEASE", "1h", "lease"),
        ("TSP__WEB__PAYLOAD_MAX", "1GiB", "payload_max"),
        ("TSP__LOG__FORMAT", "xml", "format"),
        ("TSP__WEB__NO_SUCH", "1", "no_such"),
    ];
    for (variable, value, subject) in cases {
        fails(&dir, &[(variable, value)], subject).await;
    }
}

#[tokio::test]
async fn a_wrong_file_is_named_with_its_place() {
    let dir = TempDir::new();
    let file = dir.join("tsp.toml");
    let path = file.display().to_string();
    for (text, subject) in
        [("[web]\nlisten = \n", "tsp.toml"), ("[web]\nport = 1\n", "port"), ("[wob]\n", "wob")]
    {
        std::fs::write(&file, text).unwrap();
        let ended = run(&["serve", "--config", &path], &[("TSP__AUTH__BOOTSTRAP_KEY", BOOTSTRAP_KEY)]).await;
        assert!(ended.code.is_some_and(|code| code != 0), "{text:?}: {ended:?}");
        assert!(ended.stderr.contains(subject), "{text:?}: {ended:?}");
    }
    let missing = dir.join("none.toml").display().to_string();
    let ended = run(&["serve", "--config", &missing], &[]).await;
    assert!(ended.code.is_some_and(|code| code != 0) && ended.stderr.contains("none.toml"), "{ended:?}");
    assert_eq!(run(&["no-such-command"], &[]).await.code, Some(2), "usage");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let dir = TempDir::new();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails(&dir, &[("TSP__WEB__LISTEN", &address)], &address).await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let dir = TempDir::new();
    // Even the superuser cannot make a file below a file.
    std::fs::write(dir.join("file"), "").unwrap();
    let below = dir.join("file/tsp.db").display().to_string();
    fails(&dir, &[("TSP__STORE__URL", &format!("sqlite:{below}"))], &below).await;
    // A file that is no database.
    let text = dir.join("notes.txt");
    std::fs::write(
        &text,
        "these are my notes, and they are longer than a header would be, by far and wide\n".repeat(20),
    )
    .unwrap();
    let url = format!("sqlite:{}", text.display());
    fails(&dir, &[("TSP__STORE__URL", &url)], "notes.txt").await;
    assert!(
        std::fs::read_to_string(&text).unwrap().starts_with("these are my notes"),
        "the file was changed"
    );
}

#[tokio::test]
async fn a_second_process_on_one_file_is_refused() {
    only_on!(Embedded, "a cluster has no file");
    let tsp = Tsp::start().await;
    fails(tsp.dir(), &[], "tsp.db").await;
    // The first one is none the worse for it.
    tsp.api().get("/apps").await.expect(200);
}

#[tokio::test]
async fn the_store_can_be_looked_at_beside_the_service() {
    only_on!(Embedded, "a cluster has no file");
    let tsp = Tsp::start().await;
    let url = format!("sqlite:{}", tsp.dir().join("tsp.db").display());
    let ended = run(
        &["key", "create", "--global", "--name", "ops", "--scopes", "read"],
        &[("TSP__STORE__URL", &url)],
    )
    .await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let key =
        ended.stdout.split_whitespace().find(|word| word.len() >= 24).expect("the key is printed").to_owned();
    tsp.api().with_key(&key).get("/apps").await.expect(200);
}

#[tokio::test]
async fn accept_a_full_disk_refuses_and_loses_nothing() {
    only_on!(Embedded, "a cluster has no file");
    let Some(disk) = SmallDisk::mount("6m").await else {
        println!("not shown: this machine does not let a test mount a small file system");
        return;
    };
    let url = format!("sqlite:{}", disk.join("tsp.db").display());
    let mut scene = Scene::with(Tsp::settings().set("store.url", &url)).await;
    scene.delayed("work", |config| config).await;
    let mut accepted = Vec::new();
    let payload = json!("x".repeat(30_000));
    let refused = loop {
        let task = Task::of("work").delay("1h").payload(payload.clone()).json();
        let answer = scene.api.post(&format!("/apps/{APP}/tasks"), &task).await;
        if answer.status != 201 {
            break answer;
        }
        accepted.push(answer.json()["task"]["id"].as_str().unwrap().to_owned());
        assert!(accepted.len() < 1_000, "6 MiB do not hold so much");
    };
    assert!([500, 503].contains(&refused.status), "{} {}", refused.status, refused.text);
    assert!(refused.text.contains("code"), "a problem document is wanted: {}", refused.text);
    println!("{} tasks accepted, then {} {}", accepted.len(), refused.status, refused.json()["code"]);
    // It answers still, it takes more once there is room, and a crash loses nothing of what it accepted.
    scene.api.get("/apps").await.expect(200);
    disk.resize("24m").await;
    accepted.push(scene.submit(Task::of("work").delay("1h")).await);
    scene.tsp.kill9().await;
    scene.tsp.restart().await;
    for id in &accepted {
        assert_eq!(scene.api.task(id).await["state"], "scheduled");
    }
    scene.tsp.stop().await;
}
