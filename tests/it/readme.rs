//! The shell lines of the README do what it says, and those of its translation are the same.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::process::{Process, executable};
use crate::harness::{Api, TempDir, Tsp, id_of, in_days, in_time, only_on, turn};

const README: &str = include_str!("../../README.md");
const TRANSLATION: &str = include_str!("../../README.zh-CN.md");
const MAKEFILE: &str = include_str!("../../Makefile");

/// The blocks between lines of three backticks that begin with this word, without comments.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fenced = page.split("\n```").skip(1).step_by(2);
    let own = fenced.filter_map(|block| block.split_once('\n').filter(|(head, _)| *head == language));
    own.map(|(_, text)| text.lines().filter_map(without_comment).collect::<Vec<_>>().join("\n")).collect()
}

/// `None` for a line that is a comment.
fn without_comment(line: &str) -> Option<&str> {
    if line.starts_with('#') {
        return None;
    }
    Some(line.split_once(" #").map_or(line, |(code, _)| code).trim_end())
}

/// The blocks of shell lines, in their order on the page.
struct Page {
    make_run: String,
    first_callback: String,
    three_days: String,
    start: String,
    first_config: String,
}

impl Page {
    fn read() -> Self {
        let blocks = <[String; 6]>::try_from(blocks(README, "sh"));
        let [make_run, first_callback, three_days, start, first_config, cluster] =
            blocks.unwrap_or_else(|blocks| panic!("a block came or went, run it here: {blocks:#?}"));
        assert!(cluster.starts_with("make cluster"), "`tools/cluster` is run by hand: {cluster}");
        Self { make_run, first_callback, three_days, start, first_config }
    }
}

/// A shell in a folder where the executable lies where `make` puts it.
struct Shell<'a> {
    dir: &'a TempDir,
    server: String,
}

impl<'a> Shell<'a> {
    fn new(dir: &'a TempDir) -> Self {
        for profile in ["debug", "release"] {
            let folder = dir.join("target").join(profile);
            std::fs::create_dir_all(&folder).expect("the private folder is writable");
            symlink(executable(), folder.join("tsp")).expect("it is a new one");
        }
        Self { dir, server: String::new() }
    }

    fn at(self, api: &Api) -> Self {
        Self { server: api.base(), ..self }
    }

    /// Runs lines of the page against this server; each must end well.
    async fn run(&self, lines: &str) -> String {
        let address = self.server.strip_prefix("http://").unwrap_or_default();
        let lines = lines.replace("localhost:8080", address);
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &lines]).current_dir(self.dir.path()).kill_on_drop(true);
        // Nobody's proxy, key or `.curlrc`.
        command.env("HOME", self.dir.path()).env("no_proxy", "*").env("TSP_SERVER", &self.server);
        let ended = in_time(format!("the end of `{lines}`"), command.output()).await;
        let Output { status, stdout, stderr } = ended.expect("there is a bash");
        let said = String::from_utf8_lossy(&stdout).into_owned();
        assert!(
            status.success(),
            "{lines}\nended with {status}:\n{said}\n{}",
            String::from_utf8_lossy(&stderr)
        );
        said
    }

    /// The same of lines that call the API, and perhaps a command after that: the answers.
    async fn answers(&self, lines: &str) -> Vec<Value> {
        let said = self.run(lines).await;
        let answers: Vec<Value> =
            serde_json::Deserializer::from_str(&said).into_iter().map_while(Result::ok).collect();
        assert_eq!(answers.len(), lines.matches("localhost:8080").count(), "{lines}\nsaid {said}");
        for answer in &answers {
            assert!(answer.get("code").is_none(), "{lines}\nsaid {said}");
        }
        answers
    }
}

#[test]
fn the_translation_has_the_same_blocks() {
    for language in ["sh", ""] {
        assert_eq!(blocks(README, language), blocks(TRANSLATION, language));
    }
    assert_eq!(README.matches("\n```").count(), TRANSLATION.matches("\n```").count());
}

#[tokio::test]
async fn the_first_callback_is_as_it_says() {
    only_on!(Embedded, "`tsp dev` is one process");
    let page = Page::read();
    assert_eq!(page.make_run, "make run");
    assert!(
        MAKEFILE.contains("\nrun: ")
            && MAKEFILE.contains("cargo run --locked -p tsp --no-default-features -- dev\n")
    );
    let tsp = Tsp::dev().await;
    let api = tsp.api().without_key();
    let shell = Shell::new(tsp.dir()).at(&api);

    let steps: Vec<&str> = page.first_callback.split("\n\n").collect();
    let &[submit, inbox, task, search] = &*steps else { panic!("{steps:#?}") };
    let made = shell.answers(submit).await.remove(0);
    assert_eq!(made["result"], "created", "{made}");
    api.wait_for_end(&id_of(&made["task"]), "succeeded").await;
    let received = shell.answers(inbox).await.remove(0);
    assert!(received.to_string().contains(&json!({ "order": 42 }).to_string()), "{received}");
    let ended = shell.answers(task).await.remove(0);
    let how = (&ended["state"], &ended["result"], &ended["attempt"]);
    assert_eq!(how, (&json!("ended"), &json!("succeeded"), &json!(1)), "{ended}");
    let found = shell.answers(search).await.remove(0);
    assert_eq!(found["items"][0]["id"], ended["id"], "{found}");

    let later = shell.answers(&page.three_days).await.remove(0);
    assert_eq!(api.task(&id_of(&later["task"])).await["result"], "succeeded", "three days have passed");
}

#[tokio::test]
async fn a_server_for_real_is_as_it_says() {
    only_on!(Embedded, "what the page starts is one process");
    let page = Page::read();
    let steps: Vec<&str> = page.start.lines().collect();
    let &["make build", create_key, "target/release/tsp serve"] = &*steps else { panic!("{steps:#?}") };
    assert!(MAKEFILE.contains("\nbuild: ") && MAKEFILE.contains("cargo build --locked --release -p tsp\n"));
    let _turn = turn::shared().await;
    let dir = TempDir::new();
    let shell = Shell::new(&dir);
    let key = shell.run(create_key).await.trim().to_owned();
    assert!(Path::new(&dir.join("tsp.db")).is_file(), "the server has the store that the key was made in");
    let serve = ["serve", "--listen", "127.0.0.1:0"].map(str::to_owned).to_vec();
    let mut process = Process::new("tsp", dir.path(), serve, Vec::new());
    process.boot().await;
    let api = process.api().with_key(&key);
    let shell = shell.at(&api);

    let [shown_key, shown_time] = ["tsp_…", "2030-11-21T18:30:00+08:00"];
    assert!(page.first_config.contains(shown_key) && page.first_config.contains(shown_time));
    let lines = page.first_config.replace(shown_key, &key).replace(shown_time, &in_days(1));
    let answers = shell.answers(&lines).await;
    let [app, config, made] = &*answers else { panic!("{answers:#?}") };
    assert_eq!((&app["name"], &config["name"]), (&json!("trade"), &json!("close-order")));
    assert_eq!(api.task(&id_of(&made["task"])).await["result"], "cancelled", "{made}");
}
