//! A customer's Redis or Valkey server: a private process that a test can fill, stop and start from a file.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use redis::aio::MultiplexedConnection;
use serde::Deserialize;
use uuid::Uuid;

use super::lab::{PATIENCE, free_port};
use crate::eventually::eventually;

/// How to start a server, as the flavour's variable says.
#[derive(Deserialize)]
struct Program {
    argv: Vec<String>,
    #[serde(default)]
    env: std::collections::BTreeMap<String, String>,
}

/// The server. Dropping the value ends it.
pub(super) struct Cache {
    child: Child,
    port: u16,
    password: String,
    home: tempfile::TempDir,
}

impl Cache {
    /// Starts an empty Valkey 9.
    pub(super) async fn start() -> Result<Self> {
        Self::start_from(None).await
    }

    /// Starts a Valkey 9 with a dump as its data.
    pub(super) async fn start_from(dump: Option<&Path>) -> Result<Self> {
        let variable = "LASTGOOD_TEST_VALKEY9_PROGRAM";
        let program: Program =
            serde_json::from_str(&crate::variable(variable)?).context(variable)?;
        let (name, before) = program.argv.split_first().context("no program")?;
        let home = tempfile::tempdir()?;
        let (port, password) = (free_port()?, format!("marker{}", Uuid::new_v4().simple()));
        if let Some(dump) = dump {
            std::fs::copy(dump, home.path().join("dump.rdb"))?;
        }
        let configuration = home.path().join("server.conf");
        let settings = [
            "bind 127.0.0.1".to_owned(),
            format!("port {port}"),
            format!("dir {}", home.path().display()),
            format!("requirepass {password}"),
            "save \"\"".to_owned(),
            "enable-debug-command yes".to_owned(),
            "repl-diskless-sync yes".to_owned(),
            "repl-diskless-sync-delay 0".to_owned(),
        ];
        std::fs::write(&configuration, settings.join("\n"))?;
        let log = File::create(home.path().join("log"))?;
        let child = Command::new(name)
            .args(before)
            .arg(&configuration)
            .envs(&program.env)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let cache = Self {
            child,
            port,
            password,
            home,
        };
        let answers = async || Ok(cache.ask::<String>(&["PING"]).await.is_ok());
        eventually(PATIENCE, "the server answers", answers)
            .await
            .with_context(|| cache.log())?;
        Ok(cache)
    }

    pub(super) fn url(&self) -> String {
        self.url_with(&self.password)
    }

    pub(super) fn url_with(&self, password: &str) -> String {
        format!("redis://:{password}@127.0.0.1:{}", self.port)
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    pub(super) fn home(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    pub(super) async fn connection(&self) -> Result<MultiplexedConnection> {
        let client = redis::Client::open(self.url())?;
        let patience = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        Ok(client
            .get_multiplexed_async_connection_with_config(&patience)
            .await?)
    }

    pub(super) async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> Result<T> {
        let (name, arguments) = words.split_first().context("no command")?;
        let mut connection = self.connection().await?;
        Ok(redis::cmd(name)
            .arg(arguments)
            .query_async(&mut connection)
            .await?)
    }

    /// Fills the server with data of every kind.
    pub(super) async fn fill(&self) -> Result<()> {
        let mut connection = self.connection().await?;
        let script = "
            for n = 1, 500 do redis.call('set', 'session:' .. n, string.rep(n, 20)) end
            for n = 1, 300 do redis.call('rpush', 'jobs', 'job ' .. n) redis.call('zadd', 'scores', n / 3, 'p' .. n) end
            redis.call('hset', 'user:1', 'name', 'Ann', 'blob', '\\0\\255\\r\\n')
            redis.call('hpexpire', 'user:1', 86400000, 'fields', 1, 'blob')
            redis.call('sadd', 'tags', 'a', 'b', 'c') redis.call('sadd', 'numbers', 1, 2, 70000)
            redis.call('pexpire', 'session:7', 86400000)
            for n = 1, 50 do redis.call('xadd', 'events', n .. '-1', 'n', n) end
            redis.call('xgroup', 'create', 'events', 'readers', '0')
            redis.call('xreadgroup', 'group', 'readers', 'ann', 'count', 5, 'streams', 'events', '>')";
        let library = "#!lua name=shop\nredis.register_function('price', function() return 42 end)";
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("EVAL")
            .arg(script)
            .arg(0)
            .ignore()
            .cmd("FUNCTION")
            .arg("LOAD")
            .arg(library)
            .ignore()
            .cmd("SELECT")
            .arg(3)
            .ignore()
            .cmd("SET")
            .arg("elsewhere")
            .arg("too")
            .ignore()
            .cmd("SELECT")
            .arg(0)
            .ignore();
        pipeline.exec_async(&mut connection).await?;
        Ok(())
    }

    /// Returns what a restore must bring back: the digest of the data, a key's expiry, and a function's answer.
    pub(super) async fn state(&self) -> Result<(String, i64, i64)> {
        Ok((
            self.ask(&["DEBUG", "DIGEST"]).await?,
            self.ask(&["PEXPIRETIME", "session:7"]).await?,
            self.ask(&["FCALL", "price", "0"]).await?,
        ))
    }

    pub(super) async fn lose(&self) -> Result<()> {
        self.ask::<()>(&["FLUSHALL"]).await?;
        self.ask::<()>(&["FUNCTION", "FLUSH"]).await?;
        let left: i64 = self.ask(&["DBSIZE"]).await?;
        ensure!(left == 0);
        Ok(())
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
