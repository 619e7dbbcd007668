//! Requests are signed with the keys that are valid now, whether keys are lent for a while or rotated.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::{
    TryStreamExt as _,
    future::{BoxFuture, FutureExt as _},
};
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{
    super::{
        Credentials, JobError, KeySource, Lender, LentBy, Patience, ReadKeys, Storage, Surroundings,
    },
    proxy::{Fault, Proxy, Rule},
    stores::{Kind, Store, access},
};

/// A secret that the process was given for requesting keys.
const GRANT: &str = "marker-of-a-grant";

/// A lender of keys that returns another set each time: `lent-0`, then `lent-1`, and so on.
struct Lends {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
    listening: JoinHandle<()>,
}

/// How a lender answers a request; `None` means that it refuses.
type Answer = fn(request: &str, number: usize) -> Option<String>;

impl Lends {
    async fn by(answer: Answer) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (shared, given) = (Arc::clone(&asked), AtomicUsize::new(0));
        let listening = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let Ok(request) = request(&mut client).await else {
                    continue;
                };
                let answer = answer(&request, given.load(Ordering::SeqCst));
                let has_keys = answer.as_deref().is_some_and(|it| it.contains("lent-"));
                given.fetch_add(usize::from(has_keys), Ordering::SeqCst);
                shared.lock().unwrap().push(request);
                let (status, body) = match answer {
                    Some(body) => ("200 OK", body),
                    None => ("403 Forbidden", refusal()),
                };
                let said = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                drop(client.write_all(said.as_bytes()).await);
            }
        });
        Ok(Self {
            url,
            asked,
            listening,
        })
    }

    fn asked(&self) -> String {
        self.asked.lock().unwrap().join("\n")
    }
}

impl Drop for Lends {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Returns a request, with its body.
async fn request(client: &mut TcpStream) -> Result<String> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let length = head.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(text);
            }
        }
        ensure!(client.read_buf(&mut read).await? > 0, "cut off");
    }
}

fn refusal() -> String {
    format!(
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not authorized to perform it, \
         {GRANT}</Message></Error></ErrorResponse>"
    )
}

fn json(number: usize) -> String {
    format!(
        r#"{{"Code":"Success","AccessKeyId":"lent-{number}","SecretAccessKey":"marker-of-a-secret",
            "Token":"token-{number}","Expiration":"2999-01-01T00:00:00Z"}}"#
    )
}

fn instance(request: &str, number: usize) -> Option<String> {
    Some(if request.starts_with("PUT /latest/api/token") {
        "a-session-of-imds".to_owned()
    } else if !request.contains("a-session-of-imds") {
        return None;
    } else if request.contains("security-credentials/role") {
        json(number)
    } else {
        "role".to_owned()
    })
}

fn container(request: &str, number: usize) -> Option<String> {
    request.contains(GRANT).then(|| json(number))
}

fn sts(request: &str, number: usize) -> Option<String> {
    let is_as_it_should = request.contains("Action=AssumeRoleWithWebIdentity")
        && request.contains(GRANT)
        && request.contains("RoleSessionName=lastgood");
    is_as_it_should.then(|| {
        format!(
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
             <AccessKeyId>lent-{number}</AccessKeyId><SecretAccessKey>marker-of-a-secret</SecretAccessKey>\
             <SessionToken>token-{number}</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>\
             </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )
    })
}

fn sso(request: &str, number: usize) -> Option<String> {
    request.contains(GRANT).then(|| {
        format!(
            r#"{{"roleCredentials":{{"accessKeyId":"lent-{number}","secretAccessKey":"marker-of-a-secret",
                "sessionToken":"token-{number}","expiration":32472144000000}}}}"#
        )
    })
}

fn nobody(_: &str, _: usize) -> Option<String> {
    None
}

/// Returns the environment of a process that borrows from this lender.
fn surroundings(by: LentBy, url: &str, home: &std::path::Path) -> Result<Surroundings> {
    let write = |name: &str, text: &str| -> Result<String> {
        let path = home.join(name);
        std::fs::create_dir_all(path.parent().context("no parent")?)?;
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let variables = match by {
        LentBy::WebIdentity => vec![
            ("AWS_ROLE_ARN", "arn:aws:iam::123:role/backup".to_owned()),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", write("token", GRANT)?),
            ("AWS_ENDPOINT_URL_STS", url.to_owned()),
        ],
        LentBy::Container => vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{url}/keys")),
            (
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                write("token", GRANT)?,
            ),
        ],
        LentBy::Instance => vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.to_owned())],
        LentBy::Profile => {
            write(
                ".aws/config",
                "[profile ops]\nsso_start_url = https://sso.example/start\nsso_region = eu-west-1\n\
                 sso_account_id = 123\nsso_role_name = backup\n",
            )?;
            // The SHA-1 of the start URL, as the AWS command line names the file.
            write(
                ".aws/sso/cache/98df91031e87f97bfc088c045be6442dc5d70b2a.json",
                &format!(
                    r#"{{"accessToken":"{GRANT}","expiresAt":"2999-01-01T00:00:00Z","region":"eu-west-1",
                        "startUrl":"https://sso.example/start"}}"#
                ),
            )?;
            vec![
                ("AWS_PROFILE", "ops".to_owned()),
                ("AWS_SSO_ENDPOINT", format!("{url}/federation/credentials")),
            ]
        }
    };
    Ok(Surroundings {
        variables: variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<BTreeMap<_, _>>(),
        home: Some(home.to_owned()),
    })
}

/// A bucket behind a proxy, with keys from a given source.
struct Bucket {
    store: Store,
    proxy: Proxy,
}

impl Bucket {
    async fn with(keys: KeySource, rules: &[Rule]) -> Result<Self> {
        let mut access = access(Kind::Moto)?;
        let proxy = Proxy::to(&access.endpoint.unwrap_or_default(), rules).await?;
        access.endpoint = Some(proxy.url.clone());
        access.patience.tries = 1;
        access.credentials = Some(keys);
        let prefix = uuid::Uuid::new_v4().to_string();
        let store = Store::in_bucket(&access, &prefix).await?;
        Ok(Self { store, proxy })
    }

    fn storage(&self) -> &Storage {
        &self.store.storage
    }

    async fn list(&self) -> Result<(), JobError> {
        let keys = self.storage().manifest_keys().await?;
        keys.try_collect::<Vec<_>>().await.map(drop)
    }

    /// Returns the name of the keys that signed each request, in order.
    fn signed_by(&self) -> Vec<String> {
        let heads = self.proxy.heads();
        let name = |head: &String| {
            let (_, rest) = head.split_once("Credential=")?;
            Some(rest.split('/').next()?.to_owned())
        };
        heads.iter().filter_map(name).collect()
    }
}

fn lent(by: LentBy, surroundings: Surroundings) -> KeySource {
    KeySource::Lent(Lender { by, surroundings })
}

#[rstest]
#[case::web_identity(LentBy::WebIdentity, sts)]
#[case::container(LentBy::Container, container)]
#[case::instance(LentBy::Instance, instance)]
#[case::sso(LentBy::Profile, sso)]
#[tokio::test]
async fn keys_that_are_lent_sign_every_request_with_their_token(
    #[case] by: LentBy,
    #[case] answer: Answer,
) -> Result<()> {
    let home = tempfile::tempdir()?;
    let lends = Lends::by(answer).await?;
    let keys = lent(by, surroundings(by, &lends.url, home.path())?);
    let shown = format!("{keys:?}");
    let bucket = Bucket::with(keys, &[]).await?;
    if let Err(error) = bucket.storage().check().await {
        anyhow::bail!(error.report());
    }
    let heads = bucket.proxy.heads();
    ensure!(heads.len() > 5, "{heads:?}");
    ensure!(bucket.signed_by().iter().all(|keys| keys == "lent-0"));
    ensure!(bucket.signed_by().len() == heads.len());
    let has_token = |head: &String| head.contains("x-amz-security-token: token-0");
    ensure!(heads.iter().all(has_token), "{heads:?}");
    let address = bucket
        .storage()
        .presign("v1/a", std::time::Duration::from_mins(1))
        .await?;
    let address = address.context("no address")?;
    let address = secrecy::ExposeSecret::expose_secret(&address);
    ensure!(
        address.contains("X-Amz-Security-Token=token-0"),
        "{address}"
    );
    ensure!(!lends.asked().is_empty() && !lends.asked().contains("lent-"));
    let shown = format!("{shown} {:?}", bucket.storage());
    ensure!(!shown.contains("marker"), "{shown}");
    Ok(())
}

/// Regression test: a consumer had to be restarted when its session token expired.
#[rstest]
#[case::expired(400, "ExpiredToken")]
#[case::unknown(403, "InvalidAccessKeyId")]
#[tokio::test]
async fn lent_keys_that_the_store_takes_no_more_are_asked_for_again_and_the_request_is_sent_again(
    #[case] status: u16,
    #[case] code: &'static str,
) -> Result<()> {
    let home = tempfile::tempdir()?;
    let lends = Lends::by(sts).await?;
    let by = LentBy::WebIdentity;
    let keys = lent(by, surroundings(by, &lends.url, home.path())?);
    let once = Rule {
        method: "GET",
        with: "list-type",
        times: 1,
        fault: Fault::Say(status, code),
    };
    let bucket = Bucket::with(keys, &[once]).await?;
    bucket.list().await?;
    assert_eq!(bucket.signed_by(), ["lent-0", "lent-1"]);
    Ok(())
}

/// Other keys of the same role do not help if a right is missing.
#[tokio::test]
async fn a_right_that_is_missing_is_no_reason_to_ask_for_other_keys() -> Result<()> {
    let home = tempfile::tempdir()?;
    let lends = Lends::by(sts).await?;
    let by = LentBy::WebIdentity;
    let keys = lent(by, surroundings(by, &lends.url, home.path())?);
    let always = Rule {
        method: "GET",
        with: "list-type",
        times: 1000,
        fault: Fault::Deny,
    };
    let bucket = Bucket::with(keys, &[always]).await?;
    let error = bucket.list().await.unwrap_err();
    ensure!(error.is_permanent(), "{}", error.report());
    assert_eq!(bucket.signed_by(), ["lent-0"]);
    Ok(())
}

#[rstest]
#[case::web_identity(
    LentBy::WebIdentity,
    "web identity lends none: AccessDenied: Not authorized"
)]
#[case::container(LentBy::Container, "container lends none: ECS task not authorized")]
#[tokio::test]
async fn a_lender_that_refuses_is_told_as_such_once_and_shows_no_secret(
    #[case] by: LentBy,
    #[case] told: &str,
) -> Result<()> {
    let home = tempfile::tempdir()?;
    let lends = Lends::by(nobody).await?;
    let keys = lent(by, surroundings(by, &lends.url, home.path())?);
    let bucket = Bucket::with(keys, &[]).await?;
    for failed in [
        bucket.list().await,
        bucket.storage().size("v1/a").await.map(drop),
        bucket.storage().remove("v1/a").await,
        bucket.storage().unfinished("v1/").await.map(drop),
    ] {
        let error = failed.err().context("it was signed")?;
        let report = error.report();
        ensure!(
            matches!(error, JobError::StoreDenied { .. }) && report.contains(told),
            "{report}"
        );
        ensure!(!format!("{report} {error:?}").contains(GRANT), "{report}");
    }
    ensure!(bucket.proxy.heads().is_empty(), "something was sent");
    Ok(())
}

/// Regression test: it took 45 s, because the request that could not be signed was retried.
#[rstest]
#[case::web_identity(LentBy::WebIdentity)]
#[case::container(LentBy::Container)]
#[case::instance(LentBy::Instance)]
#[tokio::test]
async fn a_lender_that_is_away_is_asked_a_few_times_and_worth_another_attempt(
    #[case] by: LentBy,
) -> Result<()> {
    let free = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let nobody = unsigned(by, &format!("http://{free}")).await?;
    let report = nobody.report();
    ensure!(
        !nobody.is_permanent() && report.contains("Connection refused"),
        "{report}"
    );

    let always = Rule {
        method: "",
        with: "",
        times: 1000,
        fault: Fault::CutRequest,
    };
    let proxy = Proxy::to(&format!("http://{free}"), &[always]).await?;
    let hung_up = unsigned(by, &proxy.url).await?;
    let (report, asked) = (hung_up.report(), proxy.heads().len());
    ensure!(!hung_up.is_permanent(), "{report}");
    // Pauses that double leave time for four requests. A retry of the store's own request would ask four more times.
    ensure!((1..=4).contains(&asked), "asked {asked} times: {report}");
    Ok(())
}

/// Returns why a request is not signed whose keys this lender should lend.
async fn unsigned(by: LentBy, url: &str) -> Result<JobError> {
    let home = tempfile::tempdir()?;
    let mut access = access(Kind::Moto)?;
    access.credentials = Some(lent(by, surroundings(by, url, home.path())?));
    // As in a consumer.
    access.patience = Patience::default();
    let store = Store::in_bucket(&access, "x").await?;
    let error = store.storage.size("v1/a").await.err();
    error.context("it was signed")
}

#[rstest]
#[case::web_identity(LentBy::WebIdentity, "AWS_ROLE_ARN")]
#[case::container(LentBy::Container, "AWS_CONTAINER_CREDENTIALS_FULL_URI")]
#[tokio::test]
async fn a_lender_of_whom_nothing_is_known_is_asked_nothing(
    #[case] by: LentBy,
    #[case] variable: &str,
) -> Result<()> {
    let bucket = Bucket::with(lent(by, Surroundings::default()), &[]).await?;
    let error = bucket.storage().size("v1/a").await.unwrap_err();
    let report = error.report();
    ensure!(
        error.is_permanent() && report.contains(variable),
        "{report}"
    );
    Ok(())
}

/// A place whose keys are replaced.
#[derive(Debug)]
struct Place(Mutex<&'static str>);

fn named(name: &str) -> Credentials {
    Credentials {
        access_key_id: name.to_owned(),
        secret_access_key: "marker-of-a-secret".to_owned().into(),
        session_token: None,
    }
}

impl ReadKeys for Place {
    fn read(&self) -> BoxFuture<'_, Result<Credentials, String>> {
        async { Ok(named(*self.0.lock().unwrap())) }.boxed()
    }
}

/// Regression test: keys were read only at startup, and after a rotation backups failed until the process was
/// restarted.
#[rstest]
#[case::in_the_middle_of_an_archive("PUT", "partNumber=2")]
#[case::in_a_question("HEAD", "v1/")]
#[case::in_a_listing("GET", "uploads")]
#[tokio::test]
async fn rotated_keys_are_read_when_the_store_refuses_the_old_ones_and_nothing_fails(
    #[case] method: &'static str,
    #[case] with: &'static str,
) -> Result<()> {
    let keys = KeySource::Read {
        first: named("old"),
        again: Arc::new(Place(Mutex::new("new"))),
    };
    let once = Rule {
        method,
        with,
        times: 1,
        fault: Fault::Say(403, "InvalidAccessKeyId"),
    };
    let bucket = Bucket::with(keys, &[once]).await?;
    let parts = Bytes::from(vec![7; 20 * 1024 * 1024]);
    let upload = bucket.storage().upload("v1/a");
    drop(upload.writer().write(parts.clone()).await);
    let finished = upload.finish().await;
    finished
        .map_err(|error| anyhow::anyhow!(error.report()))?
        .keep();
    bucket.storage().unfinished("v1/").await?;
    assert_eq!(
        bucket.storage().size("v1/a").await?,
        Some(parts.len() as u64)
    );
    assert_eq!(bucket.proxy.left(), 0);
    let signed_by = bucket.signed_by();
    ensure!(signed_by.first().is_some_and(|keys| keys == "old"));
    ensure!(signed_by.last().is_some_and(|keys| keys == "new"));
    let read: Vec<Bytes> = bucket.storage().read("v1/a").await?.try_collect().await?;
    ensure!(read.concat() == parts, "other bytes");
    Ok(())
}
