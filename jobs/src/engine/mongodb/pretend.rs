//! A server that speaks as much of MongoDB's protocol as a dump or a restore needs, and answers as a test wants.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result, ensure};
use bson::{Document, doc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The opcode of every message here.
const OP_MSG: i32 = 2013;
/// A message's length, its id, the id that it answers, its opcode, its flags, and the kind of its only section.
const HEAD_BYTES: usize = 21;

/// Decides how a command is answered.
pub(crate) type Answer = dyn Fn(&Document) -> Document + Send + Sync;

/// The server; it stops when dropped.
pub(crate) struct Pretend {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Document>>>,
    serving: JoinHandle<()>,
}

impl Pretend {
    /// Starts a member of a replica set. It answers greetings by itself and leaves the rest to `answer`.
    pub(crate) async fn start(
        version: &'static str,
        answer: impl Fn(&Document) -> Document + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let answer: Arc<Answer> = Arc::new(answer);
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (answer, log) = (answer.clone(), log.clone());
                let respond = move |command: &Document| {
                    if let Some(reply) = greeting(command, address, version) {
                        return reply;
                    }
                    log.lock().unwrap().push(command.clone());
                    answer(command)
                };
                // Ends with its connection, however that ends.
                tokio::spawn(serve(client, respond));
            }
        });
        Ok(Self {
            address,
            asked,
            serving,
        })
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("mongodb://{}/{database}", self.address)
    }

    /// Returns the commands of this name that it received, in order.
    pub(crate) fn asked(&self, command: &str) -> Vec<Document> {
        let asked = self.asked.lock().unwrap();
        let wanted = asked.iter().filter(|it| name(it) == command);
        wanted.cloned().collect()
    }
}

impl Drop for Pretend {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn name(command: &Document) -> &str {
    command.keys().next().map_or("", String::as_str)
}

/// Returns an error reply with this code.
pub(crate) fn no(code: i32) -> Document {
    doc! {"ok": 0.0, "code": code, "codeName": "Pretended", "errmsg": "as the test wants it"}
}

/// Answers the commands that every client sends.
fn greeting(command: &Document, address: SocketAddr, version: &str) -> Option<Document> {
    let me = address.to_string();
    match name(command).to_ascii_lowercase().as_str() {
        "hello" | "ismaster" => Some(doc! {
            "ok": 1.0, "helloOk": true, "isWritablePrimary": true, "ismaster": true, "setName": "rs", "setVersion": 1,
            "hosts": [&me], "primary": &me, "me": &me, "minWireVersion": 0,
            "maxWireVersion": wire_version(version),
            "maxBsonObjectSize": 16_777_216, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000,
            "logicalSessionTimeoutMinutes": 30,
        }),
        "buildinfo" => Some(doc! {"ok": 1.0, "version": version}),
        "endsessions" | "killcursors" => Some(doc! {"ok": 1.0}),
        _ => None,
    }
}

/// Returns the latest version of the wire protocol that a server speaks: that of MongoDB 4.2, or else one that is recent
/// enough.
fn wire_version(version: &str) -> i32 {
    if version.starts_with("4.2.") { 8 } else { 21 }
}

async fn serve(mut client: TcpStream, respond: impl Fn(&Document) -> Document) -> Result<()> {
    loop {
        let length = usize::try_from(client.read_i32_le().await?)?;
        let mut message = vec![0; length.checked_sub(4).context("a length")?];
        client.read_exact(&mut message).await?;
        let (head, body) = message
            .split_at_checked(HEAD_BYTES - 4)
            .context("a short message")?;
        let id = i32::from_le_bytes(*head.first_chunk().context("an id")?);
        ensure!(head.last() == Some(&0), "a section of another kind");
        let reply = respond(&bson::deserialize_from_slice(body)?);
        let body = bson::serialize_to_vec(&reply)?;
        let mut out = Vec::new();
        for number in [i32::try_from(HEAD_BYTES + body.len())?, id, id, OP_MSG, 0] {
            out.extend(number.to_le_bytes());
        }
        out.push(0);
        out.extend(body);
        client.write_all(&out).await?;
    }
}
