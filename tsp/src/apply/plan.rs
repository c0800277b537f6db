//! What has to be done so that the server has what the files say. Pure; printed before anything is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::changes::{Change, changes};
use super::document::{Document, READ_ONLY};
use super::payload::Payload;

/// A config as the server has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Current {
    pub(crate) version: i64,
    /// The API's document, without the payload.
    pub(crate) body: Map<String, Value>,
    pub(crate) payload: Option<Payload>,
}

/// By app and name.
pub(crate) type Configs = BTreeMap<(String, String), Current>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    CreateApp { app: String },
    Create { document: Document },
    Update { document: Document, version: i64, changes: Vec<Change> },
    Unchanged { app: String, name: String },
    Delete { app: String, name: String, version: i64 },
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
}

impl Plan {
    /// `apps`: those that exist. `normal` fills in the defaults of a document. With `prune`, configs of
    /// the documents' apps that stand in no document go.
    pub(crate) fn make(
        documents: Vec<Document>,
        apps: &BTreeSet<String>,
        current: &Configs,
        prune: bool,
        normal: impl Fn(&Document) -> Map<String, Value>,
    ) -> Self {
        let named: BTreeSet<String> = documents.iter().map(|document| document.app.clone()).collect();
        let wanted: BTreeSet<(String, String)> =
            documents.iter().map(|document| (document.app.clone(), document.name.clone())).collect();
        let mut steps: Vec<Step> =
            named.difference(apps).map(|app| Step::CreateApp { app: app.clone() }).collect();
        for document in documents {
            let key = (document.app.clone(), document.name.clone());
            steps.push(match current.get(&key) {
                None => Step::Create { document },
                Some(there) => {
                    let mut changes = changes(&settable(&there.body), &normal(&document), &document.body);
                    changes.extend(payload_change(there.payload.as_ref(), document.payload.as_ref()));
                    if changes.is_empty() {
                        Step::Unchanged { app: key.0, name: key.1 }
                    } else {
                        Step::Update { document, version: there.version, changes }
                    }
                }
            });
        }
        if prune {
            let gone = current.iter().filter(|(key, _)| named.contains(&key.0) && !wanted.contains(*key));
            steps.extend(gone.map(|((app, name), there)| Step::Delete {
                app: app.clone(),
                name: name.clone(),
                version: there.version,
            }));
        }
        Self { steps }
    }

    /// Nothing has to be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| matches!(step, Step::Unchanged { .. }))
    }

    /// Whether the app of a new config is new as well.
    pub(crate) fn makes_app_of(&self, step: &Step) -> bool {
        let Step::Create { document } = step else { return false };
        self.steps.iter().any(|step| matches!(step, Step::CreateApp { app } if *app == document.app))
    }

    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        let mut counts = [("create", 0), ("update", 0), ("unchanged", 0), ("delete", 0)];
        for step in &self.steps {
            let _ = writeln!(text, "{}", step.line());
            if let Step::Update { changes, .. } = step {
                for change in changes {
                    let _ = writeln!(text, "             {change}");
                }
            }
            if let Some(count) = counts.iter_mut().find(|(word, _)| *word == step.word()) {
                count.1 += 1;
            }
        }
        let counts: Vec<_> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
        let _ = writeln!(text, "plan: {}", counts.join(", "));
        text
    }
}

impl Step {
    fn word(&self) -> &'static str {
        match self {
            Self::CreateApp { .. } => "create app",
            Self::Create { .. } => "create",
            Self::Update { .. } => "update",
            Self::Unchanged { .. } => "unchanged",
            Self::Delete { .. } => "delete",
        }
    }

    /// `update trade/close-order`
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.word(), self.subject())
    }

    fn line(&self) -> String {
        format!("{:<12} {}", self.word(), self.subject())
    }

    /// Where the document stands.
    pub(crate) fn source(&self) -> Option<&str> {
        match self {
            Self::Create { document } | Self::Update { document, .. } => Some(&document.source),
            Self::CreateApp { .. } | Self::Unchanged { .. } | Self::Delete { .. } => None,
        }
    }

    fn subject(&self) -> String {
        match self {
            Self::CreateApp { app } => app.clone(),
            Self::Create { document } | Self::Update { document, .. } => {
                format!("{}/{}", document.app, document.name)
            }
            Self::Unchanged { app, name } | Self::Delete { app, name, .. } => format!("{app}/{name}"),
        }
    }
}

fn payload_change(current: Option<&Payload>, wanted: Option<&Payload>) -> Option<Change> {
    let same = match (current, wanted) {
        (Some(current), Some(wanted)) => wanted.is(current),
        (current, wanted) => current.is_none() && wanted.is_none(),
    };
    let text = |payload: Option<&Payload>| payload.map(|payload| payload.text().to_owned());
    (!same).then(|| Change::Payload { from: text(current), to: text(wanted) })
}

fn settable(body: &Map<String, Value>) -> Map<String, Value> {
    let kept = body.iter().filter(|(field, _)| *field != "app" && !READ_ONLY.contains(&field.as_str()));
    kept.map(|(field, value)| (field.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(app: &str, name: &str, priority: u8) -> Document {
        let body = json!({ "name": name, "priority": priority });
        Document {
            app: app.to_owned(),
            name: name.to_owned(),
            body: body.as_object().unwrap().clone(),
            payload: None,
            source: "test".to_owned(),
            left_out: Vec::new(),
        }
    }

    fn plan(documents: Vec<Document>, prune: bool) -> Plan {
        let current = [("trade", "a", 2), ("trade", "b", 2), ("trade", "old", 2), ("other", "x", 2)];
        let configs = current.into_iter().map(|(app, name, priority)| {
            let body =
                json!({ "app": app, "name": name, "priority": priority, "version": 3, "paused": null });
            (
                (app.to_owned(), name.to_owned()),
                Current { version: 3, body: body.as_object().unwrap().clone(), payload: None },
            )
        });
        let apps = ["trade".to_owned(), "other".to_owned()].into();
        Plan::make(documents, &apps, &configs.collect(), prune, |document| document.body.clone())
    }

    #[test]
    fn says_what_will_be_done_and_what_changes() {
        let documents = vec![
            document("trade", "a", 2),
            document("trade", "b", 3),
            document("trade", "c", 2),
            document("new", "d", 2),
        ];
        let plan = plan(documents, true);
        assert_eq!(
            plan.render(),
            "create app   new\n\
             unchanged    trade/a\n\
             update       trade/b\n\
             \x20            priority: 2 -> 3\n\
             create       trade/c\n\
             create       new/d\n\
             delete       trade/old\n\
             plan: 2 create, 1 update, 1 unchanged, 1 delete\n"
        );
        assert!(!plan.is_empty());
    }

    #[test]
    fn nothing_is_deleted_unless_asked_and_never_in_other_apps() {
        let plan = plan(vec![document("trade", "a", 2)], false);
        assert!(plan.is_empty());
        assert!(!plan.render().contains("delete       "));
    }

    #[test]
    fn payloads_are_compared_as_they_were_given() {
        let change = |current: Option<&str>, wanted: Option<Payload>| {
            let current = current.map(|text| Payload::exact(text).unwrap().unwrap());
            payload_change(current.as_ref(), wanted.as_ref()).map(|change| change.to_string())
        };
        let exact = |text: &str| Payload::exact(text).unwrap();
        let meant = |text: &str| Payload::meant(text).unwrap();
        assert_eq!(change(None, None), None);
        assert_eq!(change(Some("{\"b\": 1, \"a\":2}"), meant("{\"a\":2,\"b\":1}")), None);
        assert_eq!(change(Some("[1 ]"), exact("[1 ]")), None);
        assert_eq!(change(Some("[1 ]"), exact("[1]")).unwrap(), "payload: [1 ] -> [1]");
        assert_eq!(
            change(Some("130775545883395173123456789"), meant("130775545883395173123456780")).unwrap(),
            "payload: 130775545883395173123456789 -> 130775545883395173123456780"
        );
        assert_eq!(change(Some("1e400"), None).unwrap(), "payload: 1e400 -> null");
        assert_eq!(change(None, exact("1")).unwrap(), "payload: null -> 1");
    }
}
