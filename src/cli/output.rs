//! How a command prints: results as JSON or text on standard output, errors and hints on standard error.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use comfy_table::{Table, TableStyle};
pub(super) use lastgood_jobs::printable::printable;
use lastgood_jobs::{
    error::story,
    printable::{REPLACEMENT, steers},
};
use serde::Serialize;

use crate::nouns::{ProblemDetails, ProblemKind};

/// Prints a command's output as text or JSON.
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints `value` as JSON, or the text that `text` makes of it.
    pub(super) fn show<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<()> {
        if self.json {
            line(&serde_json::to_string_pretty(value)?)
        } else {
            line(text(value).trim_end())
        }
    }

    /// Prints an error with its causes on one line, as problem details if JSON was requested.
    pub(super) fn error(&self, error: &anyhow::Error) {
        let text = visible(&story(error.as_ref()));
        let written = if self.json {
            let problem = ProblemDetails::new(ProblemKind::of_any(error), text);
            let json = serde_json::to_string(&problem).unwrap_or_default();
            writeln!(io::stderr(), "{json}")
        } else {
            writeln!(io::stderr(), "error: {text}")
        };
        // If standard error is closed, there is nowhere left to report that.
        drop(written);
    }

    /// Prints a remark that is not part of the answer.
    pub(super) fn note(&self, text: &str) {
        if !self.json {
            drop(writeln!(io::stderr(), "{}", visible(text)));
        }
    }
}

/// Prints a line. A reader that went away (`| head`) is not an error.
fn line(text: &str) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

pub(super) fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header(headings.map(str::to_uppercase));
    table.add_rows(rows.into_iter().map(|row| row.map(|cell| printable(&cell))));
    table
        .to_string()
        .lines()
        .map(|line| line.trim().to_owned() + "\n")
        .collect()
}

/// Returns a text of possibly several lines, safe to print: text from outside must not control the terminal.
fn visible(text: &str) -> String {
    let shown = |c| !steers(c) || matches!(c, '\n' | '\t');
    text.chars()
        .map(|c| if shown(c) { c } else { REPLACEMENT })
        .collect()
}

/// Returns a count and its noun, whose plural ends in s: `1 key`, `2 keys`.
pub(super) fn counted<T: Copy + Display + PartialEq + From<u8>>(count: T, noun: &str) -> String {
    let s = if count == T::from(1) { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// Returns an instant in UTC, to the second.
pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

pub(super) fn instant_or_dash(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".to_owned(), instant)
}

/// Returns a time span in its two largest units: `1h 04m`.
pub(super) fn span(delta: TimeDelta) -> String {
    let seconds = delta.num_seconds().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes:02}m"),
        _ => format!("{days}d {hours:02}h"),
    }
}

/// Returns a number of bytes in readable units.
pub(super) fn bytes(count: i64) -> String {
    indicatif::BinaryBytes(count.unsigned_abs()).to_string()
}
