//! The tasks of a load: their keys, the bodies that submit them, and the calls.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::client::Connection;
use crate::measure::{rfc3339, scatter};
use crate::service::{APP, Service};

pub(crate) const PAYLOAD: &str = r#"{"order":42,"shop":"north","amount":1999,"currency":"EUR"}"#;

/// Tasks in a call: as many as the API takes.
pub(crate) const BATCH: usize = 1_000;
/// The keys of ended tasks are the numbers of the tasks times this, modulo a prime: they lie somewhere else each, and
/// a database can compute them.
pub(crate) const KEY_FACTOR: u64 = 1_597_334_677;
pub(crate) const KEY_MODULUS: u64 = 4_294_967_291;
const CREATED: &[u8] = br#""created""#;

/// What the keys of tasks are like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Keys {
    /// `order-1`, `order-2`: they lie side by side in an index.
    Rising,
    /// As those of a business that draws its numbers: each lies somewhere else.
    Random,
    /// Those of the ended tasks that were filled in: of every so many of them one.
    Ended { each: u64 },
}

impl Keys {
    pub(crate) fn of(self, number: usize) -> String {
        match self {
            Self::Ended { each } => {
                let number = number as u64 * each + 1;
                format!("order-{:016x}", number * KEY_FACTOR % KEY_MODULUS)
            }
            Self::Rising => format!("order-{number}"),
            Self::Random => format!("order-{:016x}", scatter(number as u64 + 1)),
        }
    }
}

/// Tasks that are submitted ahead.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) app: &'a str,
    pub(crate) tasks: usize,
    /// The config of each.
    pub(crate) config: &'a dyn Fn(usize) -> String,
    /// When each is due, in ms.
    pub(crate) due: &'a dyn Fn(usize) -> i64,
    pub(crate) keys: Keys,
}

impl Load<'_> {
    /// The body of a call that submits these of them.
    pub(crate) fn body(&self, numbers: std::ops::Range<usize>) -> String {
        let mut body = String::from(r#"{"tasks":["#);
        for number in numbers.clone() {
            if number > numbers.start {
                body.push(',');
            }
            let (config, key) = ((self.config)(number), self.keys.of(number));
            let due = rfc3339((self.due)(number));
            // Writing into a string does not fail.
            let _ = write!(
                body,
                r#"{{"config":"{config}","key":"{key}","execute_at":"{due}","payload":{PAYLOAD}}}"#
            );
        }
        body.push_str("]}");
        body
    }

    fn bodies(&self) -> Vec<Body> {
        let firsts = (0..self.tasks).step_by(BATCH);
        let body = |first: usize| {
            let numbers = first..(first + BATCH).min(self.tasks);
            Body { tasks: numbers.len(), path: batch_path(self.app), text: self.body(numbers) }
        };
        firsts.map(body).collect()
    }

    /// Submits all of them over so many connections. Every one must be created.
    pub(crate) async fn submit(&self, service: &Service, connections: usize) -> Result<()> {
        ReadyProcess::new(self.bodies(), service, connections).await?.submit().await
    }

    /// The same, made ahead: what it costs to write JSON is then no part of the submits.
    pub(crate) async fn ready(&self, service: &Service, connections: usize) -> Result<ReadyProcess> {
        ReadyProcess::new(self.bodies(), service, connections).await
    }
}

/// All tasks of one config of [`APP`], on one connection.
pub(crate) async fn submit_all(
    service: &Service,
    config: &str,
    tasks: usize,
    due: impl Fn(usize) -> i64,
) -> Result<()> {
    let load = Load { app: APP, tasks, config: &|_| config.to_owned(), due: &due, keys: service.keys };
    load.submit(service, 1).await
}

#[derive(Debug)]
struct Body {
    tasks: usize,
    path: String,
    text: String,
}

fn batch_path(app: &str) -> String {
    format!("/api/v1/apps/{app}/tasks/batch")
}

/// Bodies and the connections on which they go.
#[derive(Debug)]
pub(crate) struct ReadyProcess(Vec<(Connection, Vec<Body>)>);

impl ReadyProcess {
    async fn new(bodies: Vec<Body>, service: &Service, connections: usize) -> Result<Self> {
        let mut lines = Vec::new();
        for _ in 0..connections {
            lines.push((service.connect().await?, Vec::new()));
        }
        for (number, body) in bodies.into_iter().enumerate() {
            lines[number % connections].1.push(body);
        }
        Ok(Self(lines))
    }

    pub(crate) async fn submit(self) -> Result<()> {
        let mut callers = JoinSet::new();
        for (mut line, bodies) in self.0 {
            callers.spawn(async move {
                for body in bodies {
                    submit(&mut line, &body).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(caller) = callers.join_next().await {
            caller??;
        }
        Ok(())
    }
}

async fn submit(line: &mut Connection, body: &Body) -> Result<()> {
    let (status, answer) = line.call("POST", &body.path, body.text.as_bytes()).await?;
    // Counting the word costs less than reading the answer, and there is no other way to `created`.
    let created = answer.windows(CREATED.len()).filter(|part| *part == CREATED).count();
    let start = || String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
    ensure!(
        status == 200 && created == body.tasks,
        "{created} of {} created, {status}: {}",
        body.tasks,
        start()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_batch_is_json_with_every_element() {
        let load = Load {
            app: APP,
            tasks: 5,
            config: &|number| format!("c-{}", number % 2),
            due: &|number| i64::try_from(number).unwrap(),
            keys: Keys::Rising,
        };
        let value: serde_json::Value = serde_json::from_str(&load.body(3..5)).unwrap();
        assert_eq!(value["tasks"].as_array().map(Vec::len), Some(2));
        assert_eq!(value["tasks"][1]["config"], "c-0");
        assert_eq!(value["tasks"][1]["key"], "order-4");
        assert_eq!(value["tasks"][1]["execute_at"], "1970-01-01T00:00:00.004Z");
    }

    #[test]
    fn random_keys_differ_and_do_not_rise() {
        let keys: Vec<_> = (0..1_000).map(|number| Keys::Random.of(number)).collect();
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
        let rises = keys.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((400..600).contains(&rises), "{rises}");
    }
}
