//! `tsp doctor`

mod checks;
mod database;

use tsp_core::{Clock as _, SystemClock};

use crate::environment::Environment;
use crate::failure::{Failure, Result};
use crate::output::print;
use crate::settings::SettingsFile;

/// Check settings, database, folder, clock, port and lock; say what is wrong and what to do
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  tsp doctor --config production.toml\n\nIt works beside a running server. Like every command on the database it brings an old schema up to date."
)]
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

impl Args {
    pub(super) fn run(self, environment: &Environment) -> Result {
        // Wrong settings are told in full by loading them.
        let settings = self.file.load(environment)?;
        let now = SystemClock::new().now();
        let serving = checks::serving(&settings);
        let findings = [
            ("settings", vec![Finding::Good("every value is allowed".to_owned())]),
            ("folder", checks::folder(&settings)),
            ("server", vec![checks::server(&serving)]),
            ("port", vec![checks::port(&settings, &serving)]),
            ("database", database::check(&settings, now)),
            ("clock", vec![checks::clock(&settings, now)]),
        ];
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
