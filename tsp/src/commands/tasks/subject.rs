//! Which task is meant on the command line.

use std::str::FromStr;

use tsp_client::{Client, Subject, Task};

use crate::failure::Result;

/// A task by its id, or by `app/config/key`. A key may hold slashes; names never do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TaskName {
    Id(String),
    Key { app: String, config: String, key: String },
}

impl FromStr for TaskName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(app), Some(config), Some(key)) if ![app, config, key].contains(&"") => {
                Ok(Self::Key { app: app.to_owned(), config: config.to_owned(), key: key.to_owned() })
            }
            (Some(id), None, None) if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Self::Id(id.to_owned()))
            }
            _ => Err("must be a task's id, or `app/config/key`".to_owned()),
        }
    }
}

impl TaskName {
    pub(super) fn subject<'a>(&'a self, client: &'a Client) -> Subject<'a> {
        match self {
            Self::Id(id) => client.task(id),
            Self::Key { app, config, key } => client.by_key(app, config, key),
        }
    }

    /// The id, for calls that go by id only.
    pub(super) async fn id(&self, client: &Client) -> Result<String> {
        match self {
            Self::Id(id) => Ok(id.clone()),
            Self::Key { .. } => {
                let task: Task = self.subject(client).get().await?;
                Ok(task.id.to_string())
            }
        }
    }
}

/// Whose task a submit makes: `app/config`, or `app/config/key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewTaskName {
    pub(super) app: String,
    pub(super) config: String,
    pub(super) key: Option<String>,
}

impl FromStr for NewTaskName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let (app, config, key) = (parts.next(), parts.next(), parts.next());
        match (app, config) {
            (Some(app), Some(config))
                if ![Some(&app), Some(&config), key.as_ref()].contains(&Some(&String::new())) =>
            {
                Ok(Self { app, config, key })
            }
            _ => Err("must be `app/config`, or `app/config/key`".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_go_by_id_or_by_key() {
        assert_eq!("730112".parse(), Ok(TaskName::Id("730112".to_owned())));
        let key =
            |key: &str| TaskName::Key { app: "a".to_owned(), config: "c".to_owned(), key: key.to_owned() };
        assert_eq!("a/c/order-42".parse(), Ok(key("order-42")));
        assert_eq!("a/c/订单/42".parse(), Ok(key("订单/42")));
        for bad in ["", "a", "a/c", "a//k", "/c/k", "a/c/", "-7", "7a"] {
            assert!(bad.parse::<TaskName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_submit_may_have_a_key() {
        let name: NewTaskName = "a/c".parse().unwrap();
        assert_eq!((name.app.as_str(), name.config.as_str(), name.key), ("a", "c", None));
        assert_eq!("a/c/k/1".parse::<NewTaskName>().unwrap().key.as_deref(), Some("k/1"));
        for bad in ["", "a", "a/", "/c", "a/c/"] {
            assert!(bad.parse::<NewTaskName>().is_err(), "{bad}");
        }
    }
}
