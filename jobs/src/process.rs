//! One child process: its secrets, its stderr and its exit.

use std::{ffi::OsString, io, path::Path, process::Stdio};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
};

/// How much of a child's stderr is kept. The beginning, because a long quoted statement may follow the reason; the end,
/// because any number of warnings may precede it.
const HEAD_KEPT: usize = 4 * 1024;
const TAIL_KEPT: usize = 12 * 1024;

/// A child process that is killed with this value, and whose environment is only what it was given.
///
/// Dropping the value kills the child, and so does dropping the future that waits for it.
pub(crate) struct Tool {
    child: Child,
    stderr: JoinHandle<Ends>,
    secrets: Secrets,
}

/// How a child ended.
pub(crate) struct Exit {
    pub(crate) success: bool,
    /// For example `exit status: 1` or `signal: 9 (SIGKILL)`.
    pub(crate) status: String,
    /// The beginning and the end of its stderr, scrubbed.
    pub(crate) stderr: String,
}

impl Tool {
    /// Starts `program` with `env` as its whole environment. `secrets` are removed from its stderr.
    pub(crate) fn start(
        program: &Path,
        args: &[OsString],
        env: &[(&'static str, OsString)],
        secrets: Secrets,
    ) -> io::Result<Self> {
        Self::start_on(program, args, env, secrets, Stdio::piped())
    }

    /// Does the same with a standard input other than a pipe.
    pub(crate) fn start_on(
        program: &Path,
        args: &[OsString],
        env: &[(&'static str, OsString)],
        secrets: Secrets,
        stdin: Stdio,
    ) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(args)
            .env_clear()
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let margin = secrets.margin();
        let stderr = match child.stderr.take() {
            Some(pipe) => tokio::spawn(ends(pipe, HEAD_KEPT + margin, TAIL_KEPT + margin)),
            None => return Err(io::Error::other("the child has no stderr")),
        };
        Ok(Self {
            child,
            stderr,
            secrets,
        })
    }

    /// Takes the pipe to the child's stdin. Dropping it ends the child's input.
    pub(crate) fn take_stdin(&mut self) -> io::Result<ChildStdin> {
        let pipe = self.child.stdin.take();
        pipe.ok_or_else(|| io::Error::other("the child's stdin is taken"))
    }

    pub(crate) fn take_stdout(&mut self) -> io::Result<ChildStdout> {
        let pipe = self.child.stdout.take();
        pipe.ok_or_else(|| io::Error::other("the child's stdout is taken"))
    }

    /// Waits for the child to exit. Pipes that were not taken are closed first.
    pub(crate) async fn finish(mut self) -> io::Result<Exit> {
        drop(self.child.stdin.take());
        drop(self.child.stdout.take());
        let status = self.child.wait().await?;
        let stderr = (&mut self.stderr).await.map_err(io::Error::other)?;
        Ok(Exit {
            success: status.success(),
            status: status.to_string(),
            stderr: self.secrets.scrub_ends(&stderr, HEAD_KEPT, TAIL_KEPT),
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

/// Texts that must never be shown, each in every form in which a tool could print it.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Takes the forms of a secret, and ignores empty ones.
    pub(crate) fn new(forms: impl IntoIterator<Item = String>) -> Self {
        let mut forms: Vec<String> = forms.into_iter().filter(|form| !form.is_empty()).collect();
        // The longest first: replacing a form that is part of a longer one would leave the rest of the longer one
        // behind.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms.dedup();
        Self(forms)
    }

    /// Returns how many bytes next to a cut may belong to a secret that was cut in two.
    fn margin(&self) -> usize {
        // Half a character decodes to a replacement character of three bytes.
        self.0.first().map_or(0, String::len) + 3
    }

    /// Returns `text` with every secret replaced.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for form in &self.0 {
            clean = clean.replace(form, "***");
        }
        clean
    }

    /// Returns the scrubbed text: all of it, or its first `head` and last `tail` bytes if the middle is missing.
    /// Removes enough at the cut to remove any half of a secret there.
    fn scrub_ends(&self, ends: &Ends, head: usize, tail: usize) -> String {
        if ends.is_whole {
            let whole = [ends.head.as_slice(), &ends.tail].concat();
            return self.scrub(String::from_utf8_lossy(&whole).trim_end());
        }
        let first = self.scrub(&String::from_utf8_lossy(&ends.head));
        let to = head.min(first.len().saturating_sub(self.margin()));
        let first = first.get(..first.floor_char_boundary(to));
        let last = self.scrub(String::from_utf8_lossy(&ends.tail).trim_end());
        let from = self.margin().max(last.len().saturating_sub(tail));
        let last = last.get(last.ceil_char_boundary(from)..);
        format!(
            "{} … {}",
            first.unwrap_or_default(),
            last.unwrap_or_default()
        )
    }
}

/// A text whose middle may be missing.
struct Ends {
    head: Vec<u8>,
    tail: Vec<u8>,
    is_whole: bool,
}

/// Reads to the end, keeping the first `head` and the last `tail` bytes.
async fn ends(mut pipe: impl AsyncRead + Unpin, head: usize, tail: usize) -> Ends {
    let mut ends = Ends {
        head: Vec::new(),
        tail: Vec::new(),
        is_whole: true,
    };
    let mut chunk = vec![0; 4096];
    // A read error counts as the end: the exit status decides about success, and stderr only explains it.
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        let (read, _) = chunk.split_at(read);
        let room = head - ends.head.len();
        let (to_head, to_tail) = read.split_at(room.min(read.len()));
        ends.head.extend(to_head);
        ends.tail.extend(to_tail);
        if ends.tail.len() > 2 * tail {
            ends.cut(tail);
        }
    }
    ends.cut(tail);
    ends
}

impl Ends {
    /// Keeps only the last `kept` bytes of the tail.
    fn cut(&mut self, kept: usize) {
        if self.tail.len() > kept {
            self.tail.drain(..self.tail.len() - kept);
            self.is_whole = false;
        }
    }
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
        // The shell itself sets these.
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
            exit.stderr.len() <= HEAD_KEPT + TAIL_KEPT + 8,
            "{}",
            exit.stderr.len()
        );
        assert!(exit.stderr.ends_with("*** ***"));
        assert!(!exit.stderr.contains("p@ss") && !exit.stderr.contains("p%40ss"));
        Ok(())
    }

    #[tokio::test]
    async fn half_a_secret_at_a_cut_is_cut_off_with_it() {
        let secrets = Secrets::new(["QRSTUVWX".to_owned()]);
        let text = format!("reason QRSTUVWX, {}and end", "QRSTUVWX ".repeat(99));
        for head in 11..40 {
            for tail in 11..40 {
                let margin = secrets.margin();
                let kept = ends(text.as_bytes(), head + margin, tail + margin).await;
                let said = secrets.scrub_ends(&kept, head, tail);
                assert!(said.starts_with("reas") && said.ends_with("end"), "{said}");
                assert!(said.len() <= head + " … ".len() + tail, "{said}");
                assert!(!said.contains(char::is_uppercase), "{said}");
            }
        }
        let whole = ends("short QRSTUVWX\n".as_bytes(), 7, 99).await;
        assert_eq!(secrets.scrub_ends(&whole, 7, 99), "short ***");
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
