//! Fake client tools: a `pg_dump` that stops half way until the test opens a gate, and others that follow a script.

use std::{os::unix::fs::PermissionsExt, path::PathBuf};

use anyhow::Result;

use super::lab::client_dir_18;

/// A directory of client tools whose `pg_dump` is a script. `$REAL` is the real one.
pub(super) struct FakeTools {
    directory: tempfile::TempDir,
}

impl FakeTools {
    pub(super) fn new(script: &str) -> Result<Self> {
        let real = client_dir_18()?;
        let directory = tempfile::tempdir()?;
        let tool = directory.path().join("pg_dump");
        let real_dump = real.join("pg_dump").display().to_string();
        let gate = directory.path().join("open").display().to_string();
        let text = format!(
            "#!/bin/bash\nREAL={real_dump}\nGATE={gate}\nif [ \"$1\" = --version ]; then exec $REAL --version; fi\n{script}\n"
        );
        std::fs::write(&tool, text)?;
        std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o755))?;
        std::os::unix::fs::symlink(real.join("pg_restore"), directory.path().join("pg_restore"))?;
        Ok(Self { directory })
    }

    /// Returns tools whose real dump stops after its first 12 MB until the gate opens or its reader is gone.
    pub(super) fn gated() -> Result<Self> {
        Self::new(
            "$REAL \"$@\" | { /usr/bin/head -c 12000000
             until [ -e $GATE ] || ! kill -0 $$ 2>/dev/null; do /usr/bin/sleep 0.05; done
             exec /usr/bin/cat; }
             exit ${PIPESTATUS[0]}",
        )
    }

    /// Opens the gate: dumps continue.
    pub(super) fn open(&self) -> Result<()> {
        Ok(std::fs::write(self.directory.path().join("open"), "")?)
    }

    /// Returns the directory as `LASTGOOD_PG_CLIENT_DIRS` expects it.
    pub(super) fn path(&self) -> String {
        self.directory.path().display().to_string()
    }
}

/// Creates a table whose dump has some 20 MB and hardly compresses.
pub(super) const LARGE_TABLE: &str = "create table large as
    select n, string_agg(md5(n::text || ' ' || m::text), '') as t
    from generate_series(1, 320) n, generate_series(1, 2000) m group by n;
    alter table large add primary key (n)";

/// Returns the processes of the named tool that work on `database`, according to their environment.
pub(super) fn tools_at_work(database: &str, tool: &str) -> Result<Vec<PathBuf>> {
    let wanted = format!("PGDATABASE={database}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let read = |name: &str| {
            let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let is_at_work = read("environ")
            .split('\0')
            .any(|variable| variable == wanted);
        if is_at_work && read("cmdline").contains(tool) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
