//! `tsp doctor`

mod checks;
#[cfg(feature = "cluster")]
mod cluster;
mod embedded;
#[cfg(feature = "cluster")]
mod queue;

use crate::environment::Environment;
use crate::failure::{Failure, Result};
use crate::output::print;
use crate::settings::{SettingsFile, StoreLocation};
use crate::wiring::machine_now;

/// Check settings, databases, clocks, queue, ports and leases; say what is wrong and what to do
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tsp doctor --config production.toml\n\n\
    It works beside a running server, and when things are down. Of an embedded store it brings an old schema up\n\
    to date, like every command on the database; in a cluster it changes nothing.")]
pub(super) struct Args {
    #[command(flatten)]
    file: SettingsFile,
}

/// What one look found.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Good(String),
    /// Works, but somebody should know.
    Note {
        what: String,
        to_do: String,
    },
    Bad {
        what: String,
        to_do: String,
    },
}

impl Finding {
    fn is_good(&self) -> bool {
        matches!(self, Self::Good(_))
    }

    fn bad(what: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self::Bad { what: what.into(), to_do: to_do.into() }
    }
}

impl Args {
    pub(super) fn run(self, environment: &Environment) -> Result {
        // Wrong settings are reported in full by loading them.
        let settings = self.file.load(environment)?;
        let now = machine_now();
        let mut findings = vec![("settings", vec![Finding::Good("every value is allowed".to_owned())])];
        if matches!(settings.store.location, StoreLocation::Cluster(_)) {
            #[cfg(feature = "cluster")]
            findings.extend(cluster::check(&settings, now)?);
        } else {
            let serving = checks::serving(&settings);
            findings.push(("folder", checks::folder(&settings)));
            findings.push(("server", vec![checks::server(&serving)]));
            findings.push(("port", vec![checks::port(&settings, &serving)]));
            findings.push(("database", embedded::check(&settings, now)));
        }
        findings.push(("limits", vec![checks::descriptors(&settings)]));
        findings.push(("clock", vec![checks::clock(&settings, now)]));
        let mut bad = 0;
        let mut report = String::new();
        for (subject, findings) in &findings {
            for finding in findings {
                report.push_str(&line(subject, finding));
                bad += usize::from(matches!(finding, Finding::Bad { .. }));
            }
        }
        print(&report)?;
        if bad == 0 { Ok(()) } else { Err(Failure::failed(format!("{bad} of the checks above failed"))) }
    }
}

fn line(subject: &str, finding: &Finding) -> String {
    match finding {
        Finding::Good(what) => format!("ok    {subject:<10}{what}\n"),
        Finding::Note { what, to_do } => format!("note  {subject:<10}{what}\n{:16}{to_do}\n", ""),
        Finding::Bad { what, to_do } => format!("WRONG {subject:<10}{what}\n{:16}{to_do}\n", ""),
    }
}
