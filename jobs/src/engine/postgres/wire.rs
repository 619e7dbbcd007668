//! Our own way to a server, up to the first statement: TCP, TLS, the password, and a guard before the driver.
//!
//! The driver opens no connection itself. Its options begin with the worker's own `PG*` variables and cannot be made without them;
//! it believes every length that a peer announces; and of `sslmode` it knows less than libpq. So the connection is made here, from
//! nothing but the address, and the driver is given one that is open already.

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
use super::address::{Address, Host, Place, SslMode};
use crate::error::ServerFault;

/// Whatever carries the bytes.
trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

/// A session on which no statement has been said.
pub(crate) struct Session {
    pub(crate) connection: PgConnection,
    /// The process that the server, or who answers in its place, says it has started for us.
    pub(crate) process: u32,
}

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum NoSession {
    /// The server said so, with an SQLSTATE.
    Refused(ServerFault),
    /// The connection failed.
    Broken(ServerFault),
    /// The server did not prove who it is.
    Untrusted(ServerFault),
    /// What the URL asks for cannot be done by this server or with these files.
    Impossible(String),
}

/// Opens a session at one of the address' places. `options` are settings in libpq's form: `-c name=value`.
pub(crate) async fn open(
    address: &Address,
    place: &Place,
    options: Option<&str>,
) -> Result<Session, NoSession> {
    let opened = open_some_way(address, place, options).await?;
    guard::drive(opened).await
}

/// Tries the ways that the mode allows, in libpq's order. A server that has let us in, or has said why not for good, ends it.
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
            // What it says without TLS is worth less: it may only be that it wants TLS.
            Err(refused) if refused.is_of_the_way() => {
                attempt(Way::Plain).await.map_err(|_| refused)
            }
            opened => opened,
        },
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => attempt(Way::Encrypted).await,
    }
}

impl NoSession {
    /// Returns whether the server may let us in the other way: no rule of `pg_hba.conf` fits this one.
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
                            "its sslmode demands TLS, and the server offers none: turn TLS on there, or correct sslmode"
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
