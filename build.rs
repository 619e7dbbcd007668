//! Which commit is this build of? `LASTGOOD_COMMIT` says it where there is no git: in an image, say.
//!
//! A development build does not ask: its commit would be wrong with the next edit, and each commit would compile it anew.

use std::{env, path::Path, process::Command};

/// Whatever the program is made of: a change here makes a build something else than its commit.
const SOURCES: [&str; 8] = [
    "src",
    "jobs/src",
    "migrations",
    "sql",
    "plans.yaml",
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
];

fn main() {
    println!("cargo::rerun-if-env-changed=LASTGOOD_COMMIT");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    let commit = told()
        .or_else(of_release)
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=LASTGOOD_BUILD_COMMIT={commit}");
}

fn told() -> Option<String> {
    let commit = env::var("LASTGOOD_COMMIT").ok()?.trim().to_owned();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    (!commit.is_empty() && commit.chars().all(is_plain)).then_some(commit)
}

fn of_release() -> Option<String> {
    if env::var("PROFILE").ok()? != "release" {
        return None;
    }
    for file in ["HEAD", "logs/HEAD"] {
        // A file that is not there would be a reason to run each time.
        let path = git(&["rev-parse", "--git-path", file])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let mut changed = vec!["status", "--porcelain", "--"];
    changed.extend(SOURCES);
    let suffix = if git(&changed)?.is_empty() {
        ""
    } else {
        "+changes"
    };
    Some(format!("{commit}{suffix}"))
}

fn git(arguments: &[&str]) -> Option<String> {
    let done = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(done.stdout).ok()?;
    done.status.success().then(|| text.trim().to_owned())
}
