//! One child process: its secrets, its stderr, its exit.

use std::{ffi::OsString, io, path::Path, process::Stdio};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
};

/// How much of a child's stderr is kept: its end, where the reason stands.
const STDERR_KEPT: usize = 16 * 1024;

/// A child that dies with this value, and whose environment is nothing but what it was given.
///
/// Dropping it kills the child; so does dropping the future that waits for it.
pub(crate) struct Tool {
    child: Child,
    stderr: JoinHandle<Vec<u8>>,
    secrets: Secrets,
}

/// How a child ended.
pub(crate) struct Exit {
    pub(crate) success: bool,
    /// `exit status: 1`, `signal: 9 (SIGKILL)`.
    pub(crate) status: String,
    /// The end of its stderr, scrubbed.
    pub(crate) stderr: String,
}

impl Tool {
    /// Starts `program` with `env` as its whole environment. `secrets` never leave through its stderr.
    pub(crate) fn start(
        program: &Path,
        args: &[OsString],
        env: &[(&'static str, OsString)],
        secrets: Secrets,
    ) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(args)
            .env_clear()
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let kept = STDERR_KEPT + secrets.longest();
        let stderr = match child.stderr.take() {
            Some(pipe) => tokio::spawn(last_bytes(pipe, kept)),
            None => return Err(io::Error::other("the child has no stderr")),
        };
        Ok(Self {
            child,
            stderr,
            secrets,
        })
    }

    /// Takes the pipe into the child. Dropping it is the child's end of input.
    pub(crate) fn take_stdin(&mut self) -> io::Result<ChildStdin> {
        let pipe = self.child.stdin.take();
        pipe.ok_or_else(|| io::Error::other("the child's stdin is taken"))
    }

    /// Takes the pipe out of the child.
    pub(crate) fn take_stdout(&mut self) -> io::Result<ChildStdout> {
        let pipe = self.child.stdout.take();
        pipe.ok_or_else(|| io::Error::other("the child's stdout is taken"))
    }

    /// Waits for the child's end. A pipe that was not taken is closed first.
    pub(crate) async fn finish(mut self) -> io::Result<Exit> {
        drop(self.child.stdin.take());
        drop(self.child.stdout.take());
        let status = self.child.wait().await?;
        let tail = (&mut self.stderr).await.map_err(io::Error::other)?;
        Ok(Exit {
            success: status.success(),
            status: status.to_string(),
            stderr: self.secrets.scrub_tail(&tail, STDERR_KEPT),
        })
    }

    /// Kills the child and waits until it is gone.
    pub(crate) async fn kill(mut self) -> io::Result<Exit> {
        self.child.start_kill()?;
        self.finish().await
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.stderr.abort();
    }
}

/// Texts that must never be seen: each in every form in which a tool could print it.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Takes the forms of one secret; empty ones hide nothing.
    pub(crate) fn new(forms: impl IntoIterator<Item = String>) -> Self {
        let mut forms: Vec<String> = forms.into_iter().filter(|form| !form.is_empty()).collect();
        // The longest first: a form within another must not leave the other's rest behind.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms.dedup();
        Self(forms)
    }

    fn longest(&self) -> usize {
        self.0.first().map_or(0, String::len)
    }

    /// Returns `text` with every secret replaced.
    fn scrub(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for form in &self.0 {
            clean = clean.replace(form, "***");
        }
        clean
    }

    /// Returns the last `kept` bytes, scrubbed. What is cut off takes half a secret at the cut with it.
    fn scrub_tail(&self, bytes: &[u8], kept: usize) -> String {
        let clean = self.scrub(String::from_utf8_lossy(bytes).trim_end());
        if bytes.len() <= kept {
            return clean;
        }
        let from = clean.ceil_char_boundary(self.longest().max(clean.len().saturating_sub(kept)));
        format!("… {}", clean.get(from..).unwrap_or_default())
    }
}

/// Reads to the end and returns the last `kept` bytes.
async fn last_bytes(mut pipe: impl AsyncRead + Unpin, kept: usize) -> Vec<u8> {
    let mut tail = Vec::new();
    let mut chunk = vec![0; 4096];
    // An error reads like an end: the exit status decides about success, this is only the explanation.
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        tail.extend(chunk.iter().take(read));
        if tail.len() > 2 * kept {
            tail.drain(..tail.len() - kept);
        }
    }
    tail.drain(..tail.len().saturating_sub(kept));
    tail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, env: &[(&'static str, OsString)], secrets: Secrets) -> Tool {
        Tool::start(
            Path::new("/bin/sh"),
            &["-c".into(), script.into()],
            env,
            secrets,
        )
        .unwrap()
    }

    #[tokio::test]
    async fn a_child_sees_nothing_but_the_environment_it_was_given() -> anyhow::Result<()> {
        let mut tool = sh(
            "/usr/bin/env; exit 3",
            &[("PGHOST", "h".into())],
            Secrets::default(),
        );
        let mut out = String::new();
        tool.take_stdout()?.read_to_string(&mut out).await?;
        let mut names: Vec<_> = out.lines().filter_map(|l| l.split('=').next()).collect();
        // The shell itself sets these two.
        names.retain(|name| !matches!(*name, "PWD" | "_" | "SHLVL" | "OLDPWD"));
        assert_eq!(names, ["PGHOST"]);
        let exit = tool.finish().await?;
        assert!(!exit.success);
        assert_eq!(exit.status, "exit status: 3");
        Ok(())
    }

    #[tokio::test]
    async fn stderr_is_scrubbed_and_bounded() -> anyhow::Result<()> {
        let secrets = Secrets::new(["p@ss".to_owned(), "p%40ss".to_owned(), String::new()]);
        let script = "i=0; while [ $i -lt 9000 ]; do echo 'p@ss p%40ss' >&2; i=$((i+1)); done";
        let exit = sh(script, &[], secrets).finish().await?;
        assert!(exit.success);
        assert!(
            exit.stderr.len() <= STDERR_KEPT + 8,
            "{}",
            exit.stderr.len()
        );
        assert!(exit.stderr.ends_with("*** ***"));
        assert!(!exit.stderr.contains("p@ss") && !exit.stderr.contains("p%40ss"));
        Ok(())
    }

    #[test]
    fn half_a_secret_at_the_cut_is_cut_off_with_it() {
        let secrets = Secrets::new(["abcdefgh".to_owned()]);
        let tail = secrets.scrub_tail(b"efgh and abcdefgh and the reason", 24);
        assert!(!tail.contains("efgh"), "{tail}");
        assert!(tail.ends_with("and the reason"));
    }

    #[tokio::test]
    async fn a_dropped_child_is_killed() -> anyhow::Result<()> {
        let tool = sh("exec sleep 1000", &[], Secrets::default());
        let pid = tool.child.id().unwrap_or_default();
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        drop(tool);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while Path::new(&format!("/proc/{pid}")).exists() && std::time::Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        Ok(())
    }
}
