//! The commands of a page of the docs, followed word for word: what an operator reads at night must work as it is written.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::{lab::Lab, program::Said};

/// Returns the commands of a section of `docs/{page}`: what stands behind `$ ` in its blocks, one a line of a script. What stands
/// for something of the reader's own is put in its place; each of these must be there.
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

/// Returns every command of `docs/{page}`, each in one line.
pub(super) fn every_command(page: &str) -> Result<Vec<String>> {
    let script = typed(&read(page)?).replace("\\\n", " ");
    Ok(script.lines().map(str::to_owned).collect())
}

/// Returns the words of a command that the shell gives to the program: no comment, no redirection, nothing behind a pipe.
pub(super) fn words(command: &str) -> Vec<String> {
    let words = command.split_whitespace();
    let own = words.take_while(|word| !matches!(*word, "#" | "<" | ">" | "|" | "||" | "&&" | ";"));
    own.map(str::to_owned).collect()
}

fn read(page: &str) -> Result<String> {
    let path = format!("{}/docs/{page}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).context(path)
}

/// What is typed in a text: what stands behind `$ `, and the lines that go on with it.
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
    /// Follows a section of `docs/{page}` to its end: every command must succeed.
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
