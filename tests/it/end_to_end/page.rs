//! Runs the commands of a page of the documentation word for word: what an operator reads at night must work as it is written.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::{lab::Lab, program::Said};

/// Returns the commands in a section of a page as a script: the lines of its blocks that begin with `$ `.
///
/// The values in `own` replace the page's examples. Each example must occur.
pub(super) fn commands(page: &str, section: &str, own: &[(&str, &str)]) -> Result<String> {
    let text = read(page)?;
    let heading = format!("\n## {section}\n");
    let (_, rest) = text
        .split_once(&heading)
        .with_context(|| format!("{page} has no section {section:?}"))?;
    let mut script = typed(rest.split("\n## ").next().unwrap_or_default());
    ensure!(!script.is_empty(), "{page}: {section:?} has no command");
    for (theirs, ours) in own {
        ensure!(
            script.contains(theirs),
            "{page}: {section:?} has no {theirs:?}: {script}"
        );
        script = script.replace(theirs, ours);
    }
    Ok(script)
}

/// Returns every command of a page, each on one line.
pub(super) fn every_command(page: &str) -> Result<Vec<String>> {
    let script = typed(&read(page)?).replace("\\\n", " ");
    Ok(script.lines().map(str::to_owned).collect())
}

/// Returns the words that the shell passes to the program: without comments, redirections and anything after a pipe.
pub(super) fn words(command: &str) -> Vec<String> {
    let words = command.split_whitespace();
    let own = words.take_while(|word| !matches!(*word, "#" | "<" | ">" | "|" | "||" | "&&" | ";"));
    own.map(str::to_owned).collect()
}

fn read(page: &str) -> Result<String> {
    let path = format!("{}/docs/{page}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).context(path)
}

/// Returns what a reader types: the lines that begin with `$ `, and their continuation lines.
fn typed(text: &str) -> String {
    let mut script = String::new();
    let mut goes_on = false;
    for line in text.lines() {
        let command = match line.trim_start().strip_prefix("$ ") {
            Some(command) => command,
            None if goes_on => line,
            None => continue,
        };
        script.push_str(command);
        script.push('\n');
        goes_on = command.ends_with('\\');
    }
    script
}

impl Lab {
    /// Runs a section of a page to its end. Every command must succeed.
    pub(super) async fn follow(
        &self,
        page: &str,
        section: &str,
        own: &[(&str, &str)],
    ) -> Result<Said> {
        let script = commands(page, section, own)?;
        let said = self.run_script(&script).await?;
        said.succeeded()
            .with_context(|| format!("{page}: {section:?}: {script}"))
    }
}
