//! Our own connection to a server, up to the first statement: TCP, TLS, the password, and a guard in front of the
//! driver.
//!
//! The driver never opens a connection itself. Its options start from the worker's own `PG*` variables and cannot be
//! created without them, it believes every length that a peer announces, and it knows less of `sslmode` than libpq. So
//! we open the connection from nothing but the address, and hand it to the driver.

mod frame;
mod guard;
mod login;
mod tls;

use sqlx::PgConnection;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use self::login::Open;
use crate::{
    engine::address::postgres::{Address, Host, Place, SslMode},
    error::ServerFault,
};

/// Any stream that carries the bytes.
trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

/// A session in which no statement has been run.
pub(crate) struct Session {
    pub(crate) connection: PgConnection,
    /// The id of our backend process, as the server, or a pooler in its place, announced it.
    pub(crate) process: u32,
}

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum NoSession {
    /// The server refused, with an SQLSTATE.
    Refused(ServerFault),
    /// The connection failed.
    Broken(ServerFault),
    /// The server did not prove its identity.
    Untrusted(ServerFault),
    /// What the URL asks for is not possible with this server or these files.
    Impossible(String),
}

/// Opens a session at one of the address's places. `options` are settings in libpq's form: `-c name=value`.
pub(crate) async fn open(
    address: &Address,
    place: &Place,
    options: Option<&str>,
) -> Result<Session, NoSession> {
    let opened = open_some_way(address, place, options).await?;
    guard::drive(opened).await
}

/// Tries the ways that the mode allows, in libpq's order, until the server lets us in or refuses for good.
async fn open_some_way(
    address: &Address,
    place: &Place,
    options: Option<&str>,
) -> Result<Open, NoSession> {
    let attempt = |way| open_this_way(address, place, options, way);
    if matches!(place.host, Host::Socket(_)) {
        return attempt(Way::Plain).await;
    }
    match address.ssl_mode() {
        SslMode::Disable => attempt(Way::Plain).await,
        SslMode::Allow => match attempt(Way::Plain).await {
            Err(refused) if refused.is_of_the_way() => attempt(Way::Encrypted).await,
            opened => opened,
        },
        SslMode::Prefer => match attempt(Way::EncryptedIfOffered).await {
            // The error without TLS is less useful: it may only say that the server wants TLS.
            Err(refused) if refused.is_of_the_way() => {
                attempt(Way::Plain).await.map_err(|_| refused)
            }
            opened => opened,
        },
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => attempt(Way::Encrypted).await,
    }
}

impl NoSession {
    /// Returns whether the server may let us in the other way, because no line of `pg_hba.conf` matches this one.
    fn is_of_the_way(&self) -> bool {
        matches!(self, Self::Refused(fault) if fault.code() == Some("28000"))
    }
}

/// How the bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    EncryptedIfOffered,
    Encrypted,
}

async fn open_this_way(
    address: &Address,
    place: &Place,
    options: Option<&str>,
    way: Way,
) -> Result<Open, NoSession> {
    match &place.host {
        Host::Socket(directory) => {
            let path = directory.join(format!(".s.PGSQL.{}", place.port));
            let stream = UnixStream::connect(path).await.map_err(|e| broken(&e))?;
            login::login(Box::new(stream), None, address, options).await
        }
        Host::Name(name) => {
            let tcp = TcpStream::connect((name.as_str(), place.port))
                .await
                .map_err(|e| broken(&e))?;
            tcp.set_nodelay(true).map_err(|e| broken(&e))?;
            match way {
                Way::Plain => login::login(Box::new(tcp), None, address, options).await,
                Way::EncryptedIfOffered | Way::Encrypted => {
                    match tls::offered(tcp).await? {
                        tls::Offer::Yes(tcp) => {
                            let (stream, binding) = tls::wrap(tcp, name, address).await?;
                            login::login(stream, binding, address, options).await
                        }
                        tls::Offer::No(tcp) if way == Way::EncryptedIfOffered => {
                            login::login(Box::new(tcp), None, address, options).await
                        }
                        tls::Offer::No(_) => Err(NoSession::Impossible(
                            "its sslmode demands TLS, but the server does not offer it: turn TLS on there, or correct \
                             sslmode"
                                .to_owned(),
                        )),
                    }
                }
            }
        }
    }
}

fn broken(error: &std::io::Error) -> NoSession {
    NoSession::Broken(ServerFault::new(error.to_string(), None))
}

fn odd(what: impl Into<String>) -> NoSession {
    NoSession::Broken(ServerFault::new(what, None))
}

#[cfg(test)]
mod tests;
