//! Servers that send what no server should, and strangers at the door.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use bson::{Document, doc};
use mongodb::Client;
use rstest::rstest;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::UnixListener,
    time::{sleep, timeout},
};

use super::{
    super::{
        pretend::{Pretend, name},
        session::{self, Session},
        watch::Watch,
    },
    frame::{OP_COMPRESSED, OP_MSG, message},
    *,
};
use crate::{
    engine::address::mongodb::Address,
    error::{ErrorKind, MongodbError},
    resource::ResourceOptions,
};

/// How many bytes the sockets of both sides may hold, besides the chunk that we read.
const READ_BYTES_MAX: u64 = 16 * 1024 * 1024;
const WITHIN: Duration = Duration::from_secs(30);

/// Returns the length and opcode that a rogue server announces in its answer to a command, if it throws a bomb; endless
/// zeros follow.
type Bomb = fn(&Document) -> Option<(i32, i32)>;

/// A server that greets properly, except for the size of its messages, and throws bombs.
#[derive(Clone)]
struct Rogue {
    bomb: Bomb,
    is_router: bool,
    /// How many bytes it sent after its bombs' headers.
    sent: Arc<AtomicU64>,
    /// How many connections are open.
    open: Arc<AtomicUsize>,
}

impl Rogue {
    fn new(bomb: Bomb) -> Self {
        let (sent, open) = Default::default();
        Self {
            bomb,
            is_router: false,
            sent,
            open,
        }
    }

    /// Serves until the test ends, and returns its URL.
    async fn url(&self) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("mongodb://{}/shop", listener.local_addr()?);
        let rogue = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(rogue.clone().serve(client));
            }
        });
        Ok(url)
    }

    fn url_of_socket(&self, home: &std::path::Path) -> Result<String> {
        let path = home.join("mongodb-27017.sock");
        let listener = UnixListener::bind(&path)?;
        let path = path.display().to_string().replace('/', "%2F");
        let rogue = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(rogue.clone().serve(client));
            }
        });
        Ok(format!("mongodb://{path}/shop"))
    }

    async fn serve(self, mut client: impl AsyncRead + AsyncWrite + Unpin) {
        self.open.fetch_add(1, Ordering::SeqCst);
        let _ended = self.answer(&mut client).await;
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    async fn answer(&self, client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<()> {
        loop {
            let length = usize::try_from(client.read_i32_le().await?)?;
            let mut rest = vec![0; length.checked_sub(4).context("a length")?];
            client.read_exact(&mut rest).await?;
            let id = i32::from_le_bytes(*rest.first_chunk().context("an id")?);
            let command = bson::deserialize_from_slice(rest.get(17..).context("a command")?)?;
            match (self.bomb)(&command) {
                None => {
                    client
                        .write_all(&answer(id, &command, self.is_router)?)
                        .await?;
                }
                Some((length, kind)) => {
                    let head = [length, 0, id, kind].map(i32::to_le_bytes).concat();
                    client.write_all(&head).await?;
                    let zeros = vec![0; 64 * 1024];
                    loop {
                        let sent = client.write(&zeros).await? as u64;
                        self.sent.fetch_add(sent, Ordering::SeqCst);
                    }
                }
            }
        }
    }
}

fn answer(id: i32, command: &Document, is_router: bool) -> Result<Vec<u8>> {
    let mut told = match name(command).to_ascii_lowercase().as_str() {
        "hello" | "ismaster" => doc! {
            "ok": 1.0, "helloOk": true, "isWritablePrimary": true, "ismaster": true, "minWireVersion": 0, "maxWireVersion": 21,
            "maxBsonObjectSize": i32::MAX, "maxMessageSizeBytes": i32::MAX, "maxWriteBatchSize": i32::MAX,
            "compression": ["zlib"],
        },
        _ => doc! {"ok": 1.0, "version": "7.0.1"},
    };
    if is_router && is_greeting(command) {
        told.insert("msg", "isdbgrid");
    }
    Ok(message(id, OP_MSG, &bson::serialize_to_vec(&told)?))
}

fn is_greeting(command: &Document) -> bool {
    matches!(name(command), "hello" | "isMaster" | "ismaster")
}

async fn connected(url: &str) -> Result<Session, JobError> {
    let address = Address::parse(&url.to_owned().into())?;
    let Ok(connected) = timeout(
        WITHIN,
        session::connect(&address, ResourceOptions::default()),
    )
    .await
    else {
        panic!("no end within {WITHIN:?}");
    };
    connected
}

/// Fails unless the error says that the server can never be used.
fn is_refused(error: &JobError, told: &str) -> Result<()> {
    let report = error.report();
    ensure!(report.contains(told), "{report}");
    ensure!(
        error.kind() == ErrorKind::Config && error.is_permanent(),
        "{report}"
    );
    Ok(())
}

/// Guards against believing a length that a peer announces before the bytes are there.
#[rstest]
#[case::message_of_two_gigabytes(
    |it: &_| (!is_greeting(it)).then_some((i32::MAX, OP_MSG)),
    "announced a message of 2147483647 bytes; MongoDB's limit is 48 MB"
)]
#[case::greeting_of_two_gigabytes(
    |it: &_| is_greeting(it).then_some((i32::MAX, OP_MSG)),
    "announced a message of 2147483647 bytes; MongoDB's limit is 48 MB"
)]
#[case::greeting_of_a_megabyte(
    |it: &_| is_greeting(it).then_some((1_000_000, OP_MSG)),
    "announced 1000000 bytes as the answer to a command with a short one; lastgood reads at most 65536"
)]
#[case::version_of_a_megabyte(
    |it: &_| (name(it) == "buildInfo").then_some((1_000_000, OP_MSG)),
    "announced 1000000 bytes"
)]
#[case::compressed_bomb(|it: &_| (!is_greeting(it)).then_some((9_300_000, OP_COMPRESSED)), "compressed an answer")]
#[case::compressed_greeting(|it: &_| is_greeting(it).then_some((9_300, OP_COMPRESSED)), "compressed an answer")]
#[case::less_than_a_head(|it: &_| (!is_greeting(it)).then_some((3, OP_MSG)), "of 3 bytes")]
#[case::query(|it: &_| is_greeting(it).then_some((100, 2004)), "unknown kind 2004")]
#[tokio::test]
async fn an_answer_that_mongodb_does_not_give_is_refused_unread(
    #[case] bomb: Bomb,
    #[case] told: &str,
) -> Result<()> {
    let rogue = Rogue::new(bomb);
    let url = rogue.url().await?;
    let options = "serverSelectionTimeoutMS=1000&compressors=zlib,zstd&zlibCompressionLevel=9";
    let error = connected(&format!("{url}?{options}")).await.err();
    let error = error.context("it was believed")?;
    is_refused(&error, told)?;
    let address = url
        .trim_start_matches("mongodb://")
        .trim_end_matches("/shop");
    ensure!(error.report().contains(address), "{}", error.report());
    let sent = rogue.sent.load(Ordering::SeqCst);
    // Each of the few connections may have taken its share.
    ensure!(sent < 4 * READ_BYTES_MAX, "{sent} bytes were taken");
    is_left(&rogue).await
}

/// Waits until no connection is open.
async fn is_left(rogue: &Rogue) -> Result<()> {
    let left = async {
        while rogue.open.load(Ordering::SeqCst) > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WITHIN, left).await.context("connections stay")
}

#[tokio::test]
async fn a_message_that_is_refused_in_the_middle_of_a_session_is_final_too() -> Result<()> {
    let rogue = Rogue::new(|it| (name(it) == "find").then_some((100_000_000, OP_MSG)));
    let session = connected(&rogue.url().await?).await?;
    let asked = session.ask("read", "shop", doc! {"find": "orders"}).await;
    is_refused(
        &asked.unwrap_err(),
        "announced a message of 100000000 bytes",
    )?;
    ensure!(rogue.sent.load(Ordering::SeqCst) < READ_BYTES_MAX);
    Ok(())
}

#[tokio::test]
async fn a_router_is_refused_by_name() -> Result<()> {
    let mut router = Rogue::new(|_| None);
    router.is_router = true;
    let refused = connected(&router.url().await?).await.err();
    let is_named = matches!(
        refused,
        Some(JobError::Mongodb(MongodbError::ShardedCluster))
    );
    ensure!(is_named, "{refused:?}");
    Ok(())
}

/// A decoded answer takes many times its length in memory.
#[tokio::test]
async fn documents_may_be_longer_than_what_is_said_about_them() -> Result<()> {
    for (command, may) in [("find", true), ("listCollections", false)] {
        let rogue = Rogue::new(|it| {
            (name(it) != "buildInfo" && !is_greeting(it)).then_some((17_000_000, OP_MSG))
        });
        let session = connected(&rogue.url().await?).await?;
        let asked = session.ask("read", "shop", doc! {command: "orders"}).await;
        let report = asked.unwrap_err().report();
        // The read then fails for another reason: the answer is nothing but zeros.
        ensure!(
            report.contains("announced 17000000 bytes") != may,
            "{command}: {report}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_socket_is_guarded_as_well() -> Result<()> {
    let home = tempfile::tempdir()?;
    let rogue = Rogue::new(|it| (name(it) == "find").then_some((i32::MAX, OP_MSG)));
    let session = connected(&rogue.url_of_socket(home.path())?).await?;
    let asked = session.ask("read", "shop", doc! {"find": "orders"}).await;
    let error = asked.unwrap_err();
    is_refused(&error, "announced a message of 2147483647 bytes")?;
    ensure!(
        error.report().contains("mongodb-27017.sock"),
        "{}",
        error.report()
    );
    Ok(())
}

#[rstest]
#[case::nobody_listens("mongodb://127.0.0.1:9/shop", "127.0.0.1:9: Connection refused")]
#[case::no_such_name("mongodb://db.invalid/shop", "db.invalid:27017: ")]
#[case::no_such_socket(
    "mongodb://%2Fnowhere%2Fmongodb.sock/shop",
    "/nowhere/mongodb.sock: No such file"
)]
#[tokio::test]
async fn a_server_that_is_not_to_be_had_is_named_with_the_reason(
    #[case] url: &str,
    #[case] told: &str,
) -> Result<()> {
    let url = format!("{url}?serverSelectionTimeoutMS=300&connectTimeoutMS=5000");
    let error = connected(&url).await.err().context("it is there")?;
    let report = error.report();
    ensure!(report.contains(told), "{report}");
    ensure!(
        error.kind() == ErrorKind::Connect && !error.is_permanent(),
        "{report}"
    );
    Ok(())
}

#[tokio::test]
async fn a_server_that_says_nothing_is_named_before_the_driver_gives_up() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let address = silent.local_addr()?;
    let url = format!(
        "mongodb://{address}/shop?tls=true&connectTimeoutMS=300&serverSelectionTimeoutMS=1000"
    );
    let error = connected(&url).await.err().context("it spoke")?;
    let told = format!("{address}: no connection within 0.3 s");
    ensure!(error.report().contains(&told), "{}", error.report());
    Ok(())
}

#[tokio::test]
async fn a_url_that_would_wait_for_ever_waits_as_long_as_others() -> Result<()> {
    let url = Rogue::new(|_| None).url().await?;
    connected(&format!(
        "{url}?connectTimeoutMS=0&serverSelectionTimeoutMS=0"
    ))
    .await?;
    Ok(())
}

/// Returns the options of a client with a way to a server, and that way's password and port.
async fn way_to(url: &str) -> Result<(ClientOptions, Wire, String, u16)> {
    let mut options = ClientOptions::parse(url).await?;
    let wire = Wire::open(&mut options, WITHIN, Heard::default()).await?;
    let proxy = options.socks5_proxy.clone().context("a proxy")?;
    let (_, password) = proxy.authentication.context("a password")?;
    Ok((options, wire, password, proxy.port.context("a port")?))
}

/// Sends bytes to a port of this machine, and returns what comes back before the end.
async fn told(port: u16, said: &[&[u8]]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(&said.concat()).await?;
    let mut told = Vec::new();
    // A reset counts as an end: not all that we sent was read.
    let _ended = timeout(WITHIN, stream.read_to_end(&mut told)).await?;
    Ok(told)
}

#[tokio::test]
async fn a_stranger_on_this_machine_does_not_get_in() -> Result<()> {
    let server = Pretend::start("7.0.1", |_| doc! {"ok": 1.0}).await?;
    let (_options, _wire, password, port) = way_to(&server.url("")).await?;
    let login = |user: &[u8], password: &[u8]| {
        let length = |it: &[u8]| [u8::try_from(it.len()).unwrap()];
        [&[1][..], &length(user), user, &length(password), password].concat()
    };
    let to = [&[5, 1, 0, 3, 9][..], b"localhost", &[0x69, 0x89]].concat();
    let greeting: &[u8] = &[5, 2, 0, 2];
    let wrong = login(b"lastgood", &b"0".repeat(64));
    let shorter = login(b"lastgood", &password.as_bytes()[..63]);
    let another = login(b"root", password.as_bytes());
    let right = login(b"lastgood", password.as_bytes());
    for (said, answered) in [
        (vec![&[5, 1, 0][..], &to], &[5, 255][..]),
        (vec![greeting, &wrong, &to], &[5, 2, 1, 1]),
        (vec![greeting, &shorter, &to], &[5, 2, 1, 1]),
        (vec![greeting, &another, &to], &[5, 2, 1, 1]),
        (vec![b"GET / HTTP/1.1\r\n\r\n"], &[]),
        // The door opens, but nobody listens behind it.
        (
            vec![greeting, &right, &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0]],
            &[5, 2, 1, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0],
        ),
    ] {
        assert_eq!(told(port, &said).await?, answered, "to {said:?}");
    }
    Ok(())
}

#[tokio::test]
async fn two_clients_have_doors_and_passwords_of_their_own() -> Result<()> {
    let (_a, _kept, one, at) = way_to("mongodb://localhost").await?;
    let (_b, _kept_too, another, at_another) = way_to("mongodb://localhost").await?;
    ensure!(one != another && at != at_another && one.len() == 64);
    Ok(())
}

#[tokio::test]
async fn the_way_ends_with_its_client() -> Result<()> {
    let rogue = Rogue::new(|_| None);
    let (mut options, wire, _, port) = way_to(&rogue.url().await?).await?;
    options.sdam_event_handler = Some(Watch::default().handler(wire));
    let client = Client::with_options(options)?;
    client
        .database("admin")
        .run_command(doc! {"ping": 1})
        .await?;
    ensure!(rogue.open.load(Ordering::SeqCst) > 0);
    drop(client);
    is_left(&rogue).await?;
    let closed = async {
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .is_ok()
        {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WITHIN, closed).await.context("the door stays open")
}
