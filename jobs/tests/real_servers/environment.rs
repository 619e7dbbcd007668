//! Nothing of a worker's own environment reaches a customer's server.
//!
//! Guards against a library or tool that takes what a URL leaves out from the environment or the home directory. A
//! separate process sets every variable of the engines' clients to a marker, and makes backups through proxies that
//! record everything sent.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
};

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::{
    clients::Toolbox,
    resource::{Engine, ResourceOptions},
    storage::{BucketAccess, Credentials, Storage},
    worker::{Progress, Worker},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use url::Url;

use crate::{
    lab::{Lab, Server, Switch, attempt, client_dirs, variable},
    subject::{Subject, backup},
};

/// The value of every variable, also found in the files that variables point to.
const ENVIRONMENT: &str = "marker-of-the-workers-environment";
/// Tells the child process what to back up.
const TOLD: &str = "LASTGOOD_TEST_BACKS_UP";

/// The variables that libpq 18, the drivers and AWS's tools read. A port must be valid, or the driver ignores it.
const VARIABLES: [&str; 71] = [
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGPASSWORD",
    "PGREQUIREAUTH",
    "PGCHANNELBINDING",
    "PGSERVICE",
    "PGOPTIONS",
    "PGAPPNAME",
    "PGSSLMODE",
    "PGREQUIRESSL",
    "PGSSLNEGOTIATION",
    "PGSSLCOMPRESSION",
    "PGSSLCERTMODE",
    "PGSSLROOTCERT",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLSNI",
    "PGREQUIREPEER",
    "PGSSLMINPROTOCOLVERSION",
    "PGSSLMAXPROTOCOLVERSION",
    "PGKRBSRVNAME",
    "PGGSSLIB",
    "PGGSSDELEGATION",
    "PGGSSENCMODE",
    "PGCONNECT_TIMEOUT",
    "PGCLIENTENCODING",
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
    "PGMINPROTOCOLVERSION",
    "PGMAXPROTOCOLVERSION",
    "PGDATESTYLE",
    "PGTZ",
    "PGGEQO",
    "PGSYSCONFDIR",
    "PGLOCALEDIR",
    "MONGODB_URI",
    "MONGODB_URL",
    "MONGODB_HOST",
    "MONGODB_USER",
    "MONGODB_USERNAME",
    "MONGODB_PASSWORD",
    "MONGODB_DATABASE",
    "MONGO_URL",
    "MONGO_INITDB_ROOT_PASSWORD",
    "REDIS_URL",
    "REDIS_HOST",
    "REDIS_PORT",
    "REDIS_USER",
    "REDIS_USERNAME",
    "REDIS_PASSWORD",
    "REDISCLI_AUTH",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_EXECUTION_ENV",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_CA_BUNDLE",
    "AWS_DEFAULTS_MODE",
];

/// Everything that was sent to one proxy.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn note(&self, bytes: &[u8]) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.extend_from_slice(bytes);
    }

    fn has(&self, text: &str) -> bool {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.windows(text.len()).any(|it| it == text.as_bytes())
    }
}

/// A proxy that records everything; dropping the value stops it.
struct Way {
    port: u16,
    heard: Heard,
    serving: JoinHandle<()>,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Starts a proxy to a real server.
async fn to(server: &Url) -> Result<Way> {
    let there = (
        server.host_str().context("a server has a host")?.to_owned(),
        server.port().context("a server has a port")?,
    );
    listen(move |mut client, heard| {
        let there = there.clone();
        async move {
            let mut server = TcpStream::connect(there).await?;
            let (mut from_client, mut to_client) = client.split();
            let (mut from_server, mut to_server) = server.split();
            let forth = async {
                let mut chunk = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = from_client.read(&mut chunk).await {
                    heard.note(chunk.get(..read).unwrap_or_default());
                    if to_server
                        .write_all(chunk.get(..read).unwrap_or_default())
                        .await
                        .is_err()
                    {
                        break;
                    }
                }
            };
            tokio::select! {
                () = forth => {}
                _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
            }
            Ok(())
        }
    })
    .await
}

/// Starts a server that asks for a cleartext password and then refuses it.
async fn to_a_curious_postgres() -> Result<Way> {
    listen(|mut client, heard| async move {
        loop {
            let length = client.read_u32().await?;
            let mut first = vec![0; usize::try_from(length).unwrap_or(4).saturating_sub(4)];
            client.read_exact(&mut first).await?;
            heard.note(&first);
            // Requests for encryption are refused; then comes the startup message.
            if first.len() != 4 {
                break;
            }
            client.write_all(b"N").await?;
        }
        client.write_all(b"R\0\0\0\x08\0\0\0\x03").await?;
        let mut rest = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = client.read(&mut rest).await {
            heard.note(rest.get(..read).unwrap_or_default());
            client
                .write_all(b"E\0\0\0\x1dSFATAL\0C28P01\0Mwrong one\0\0")
                .await?;
        }
        Ok(())
    })
    .await
}

/// Starts a bucket that is always empty.
async fn to_a_bucket() -> Result<Way> {
    listen(|mut client, heard| async move {
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = client.read(&mut chunk).await {
            heard.note(chunk.get(..read).unwrap_or_default());
            client
                .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                .await?;
        }
        Ok(())
    })
    .await
}

async fn listen<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    serve: impl Fn(TcpStream, Heard) -> F + Send + 'static,
) -> Result<Way> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let heard = Heard::default();
    let ours = heard.clone();
    let serving = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, ours.clone()));
        }
    });
    Ok(Way {
        port,
        heard,
        serving,
    })
}

/// One backup for the child process to make. It may fail.
#[derive(serde::Serialize, serde::Deserialize)]
struct Errand {
    engine: Engine,
    url: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_workers_environment_reaches_a_customers_server() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table t as select 1 as a").await?;
    let curious = to_a_curious_postgres().await?;
    let postgres = to(&lab.server.url).await?;
    let mongodb_url: Url = variable("LASTGOOD_TEST_MONGODB_URL")?.parse()?;
    let mongodb = to(&mongodb_url).await?;
    let redis_url: Url = variable("LASTGOOD_TEST_REDIS6_URL")?.parse()?;
    let redis = to(&redis_url).await?;
    let bucket = to_a_bucket().await?;

    let through = |url: &Url, way: &Way| -> Result<String> {
        let mut url = url.clone();
        url.set_port(Some(way.port)).ok().context("it has a port")?;
        Ok(url.to_string())
    };
    let own: Url = secrecy::ExposeSecret::expose_secret(&lab.resource.url).parse()?;
    let errands = [
        // Its URL leaves out every optional part.
        Errand {
            engine: Engine::Postgres,
            url: format!("postgres://somebody@127.0.0.1:{}/shop", curious.port),
        },
        Errand {
            engine: Engine::Postgres,
            url: through(&own, &postgres)?,
        },
        Errand {
            engine: Engine::Mongodb,
            url: through(&mongodb_url, &mongodb)?,
        },
        Errand {
            engine: Engine::Redis,
            url: format!("redis://127.0.0.1:{}", redis.port),
        },
    ];
    run_errands(&errands, &bucket).await?;

    // The backups did reach these servers, by their own URLs.
    ensure!(
        curious.heard.has("somebody"),
        "nobody asked the curious server"
    );
    ensure!(
        postgres.heard.has("COPY public.t"),
        "pg_dump did not come by"
    );
    ensure!(mongodb.heard.has("hello"), "nobody asked MongoDB");
    ensure!(redis.heard.has("SETNAME"), "nobody asked Redis");
    ensure!(
        bucket.heard.has("the-stores-own-key"),
        "nobody asked the bucket"
    );
    for (name, way) in [
        ("PostgreSQL without a password", &curious),
        ("PostgreSQL", &postgres),
        ("MongoDB", &mongodb),
        ("Redis", &redis),
        ("the bucket", &bucket),
    ] {
        ensure!(
            !way.heard.has(ENVIRONMENT),
            "the environment reached {name}"
        );
    }
    lab.clean().await
}

/// Makes these backups in a separate process, in which every variable has the marker.
async fn run_errands(errands: &[Errand], bucket: &Way) -> Result<()> {
    let home = tempfile::tempdir()?;
    let passwords = format!("*:*:*:*:{ENVIRONMENT}\n");
    let (pgpass, service) = (
        home.path().join(".pgpass"),
        home.path().join(".pg_service.conf"),
    );
    std::fs::write(&pgpass, passwords)?;
    std::fs::write(
        &service,
        format!("[{ENVIRONMENT}]\npassword={ENVIRONMENT}\n"),
    )?;
    std::fs::set_permissions(&pgpass, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let told = serde_json::to_string(&(errands, bucket.port))?;
    let done = tokio::process::Command::new(std::env::current_exe()?)
        .args([
            "--exact",
            "environment::backs_up_what_another_test_asks_for",
            "--nocapture",
        ])
        .envs(VARIABLES.map(|name| (name, ENVIRONMENT)))
        .env("PGPASSFILE", &pgpass)
        .env("PGSERVICEFILE", &service)
        .env("HOME", home.path())
        .env(TOLD, told)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&done.stdout);
    ensure!(
        done.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

/// The child's half of the test above. Does nothing unless it has backups to make.
#[tokio::test(flavor = "multi_thread")]
async fn backs_up_what_another_test_asks_for() -> Result<()> {
    let Ok(told) = std::env::var(TOLD) else {
        return Ok(());
    };
    let (errands, bucket): (Vec<Errand>, u16) = serde_json::from_str(&told)?;
    // Without a lab, whose own sessions may use the environment.
    let (store, work) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut worker = Worker {
        storage: Storage::open(&store.path().display().to_string().parse()?).await?,
        tools: Arc::new(Toolbox::only(&client_dirs()?).await),
        work_dir: work.path().to_owned(),
        encrypt_to: None,
        keyring: Arc::new(lastgood_jobs::key::NoKeys),
        lease: Arc::new(Switch(AtomicBool::new(true))),
        progress: Arc::new(Progress::default()),
    };
    let resource = |errand: &Errand| -> Result<Subject> {
        Ok(Subject {
            id: "db-1".parse()?,
            team: "acme".parse()?,
            tier: "pro".parse()?,
            engine: errand.engine,
            options: ResourceOptions::default(),
            url: errand.url.clone().into(),
        })
    };
    for errand in &errands {
        let resource = resource(errand)?;
        // Only what was sent matters, not the result.
        drop(backup(attempt(), &resource, None, &worker).await);
    }
    let access = BucketAccess {
        endpoint: Some(format!("http://127.0.0.1:{bucket}")),
        credentials: Some(
            Credentials {
                access_key_id: "the-stores-own-key".to_owned(),
                secret_access_key: "its-secret".to_owned().into(),
                session_token: None,
            }
            .into(),
        ),
        ..BucketAccess::default()
    };
    worker.storage = Storage::open_with(&"s3://bucket/prefix".parse()?, &access).await?;
    if let Some(errand) = errands.get(1) {
        drop(backup(attempt(), &resource(errand)?, None, &worker).await);
    }
    Ok(())
}
