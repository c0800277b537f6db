//! What commands print.

mod table;
mod tasks;
mod visible;

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::{Failure, Result};
pub(crate) use table::Table;
pub(crate) use tasks::{attempt_table, task_list, task_sheet};
pub(crate) use visible::{visible, visible_line};

use visible::visible_json;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// The server's own documents
    Json,
}

impl Format {
    /// `value` as JSON, or as `table` draws it.
    pub(crate) fn print<T: Serialize>(self, value: &T, table: impl FnOnce(&T) -> String) -> Result {
        match self {
            Self::Table => print(&table(value)),
            Self::Json => write(&visible_json(&json(value)?)),
        }
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))
}

/// Text for people, on standard output.
pub(crate) fn print(text: &str) -> Result {
    write(&visible(text))
}

/// A document or script for another program, byte for byte; a terminal gets it as text for people.
pub(crate) fn print_document(text: &str) -> Result {
    if std::io::stdout().is_terminal() { print(text) } else { write(text) }
}

/// Not `print!`, which panics when the reader (`head`) goes away.
fn write(text: &str) -> Result {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
