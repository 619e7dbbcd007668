//! The connections of the driver: we make them ourselves, and a guard bounds what the driver reads.
//!
//! The driver believes any length that a server announces for a message, decompresses a message without limit, and
//! opens its connections itself. Its only hook is a SOCKS5 proxy. So each client gets a door on this machine that opens
//! to it alone. Behind the door we make the connection, with TLS as the URL asks, and check the length of each answer
//! before the driver sees it.

mod dial;
mod door;
mod frame;
mod guard;
mod heard;
mod tls;

use std::{io, net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use mongodb::options::{ClientOptions, ServerAddress, Socks5Proxy, Tls};
use rustls::ClientConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};

use self::{
    dial::Dialled,
    door::{Key, Place},
};
pub(super) use self::{
    frame::{REFUSED, SAID_BY_US},
    heard::Heard,
};
use crate::error::{JobError, MongodbError};

/// The most connections of one client; more have to wait. A server may announce thousands of members, and the driver
/// watches each of them.
const CONNECTIONS_MAX: usize = 512;
/// How long to wait before the next connection is accepted when the machine can accept none.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// The way of one client to its servers. It is open for as long as this value lives.
#[derive(Debug)]
pub(super) struct Wire {
    serving: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Its connections end with it.
        self.serving.abort();
    }
}

#[derive(Debug)]
struct Route {
    key: Key,
    /// A SOCKS5 request cannot name a Unix socket, so each has a numbered stand-in.
    sockets: Vec<PathBuf>,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
    heard: Heard,
}

impl Wire {
    /// Opens a way for a client and points its options there. `timeout` bounds how long making a connection may take.
    pub(super) async fn open(
        options: &mut ClientOptions,
        timeout: Duration,
        heard: Heard,
    ) -> Result<Self, JobError> {
        let tls = match options.tls.replace(Tls::Disabled) {
            Some(Tls::Enabled(asked)) => Some(tls::configured(asked).await?),
            Some(Tls::Disabled) | None => None,
        };
        let broken = |source: io::Error| JobError::Io {
            doing: "open a local port for the connection to MongoDB",
            source,
        };
        let (key, password) = Key::drawn().map_err(broken)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(broken)?;
        let port = listener.local_addr().map_err(broken)?.port();
        let proxy = Socks5Proxy::builder()
            .host(Ipv4Addr::LOCALHOST.to_string())
            .port(port)
            .authentication((door::USER.to_owned(), password))
            .build();
        options.socks5_proxy = Some(proxy);
        let route = Route {
            key,
            sockets: stand_ins(&mut options.hosts),
            tls,
            // Less than the driver's own timeout, so that we can still report what took so long.
            timeout: timeout.mul_f64(0.9),
            heard,
        };
        let serving = tokio::spawn(serve(listener, Arc::new(route)));
        Ok(Self { serving })
    }
}

/// Replaces Unix sockets with stand-in names, and returns the sockets in the order of the names.
fn stand_ins(hosts: &mut [ServerAddress]) -> Vec<PathBuf> {
    let mut sockets = Vec::new();
    for host in hosts {
        if let ServerAddress::Unix { path } = host {
            let stand_in = Place::of_socket(sockets.len());
            sockets.push(path.clone());
            *host = ServerAddress::Tcp {
                host: stand_in.host,
                port: Some(stand_in.port),
            };
        }
    }
    sockets
}

async fn serve(listener: TcpListener, route: Arc<Route>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut passing = JoinSet::new();
    loop {
        let Ok(place) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((driver, _)) => {
                let route = route.clone();
                passing.spawn(async move {
                    // The driver sees any failure as the end of its connection; `heard` knows the reason.
                    let _ended = pass(driver, &route).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(EXHAUSTED_PAUSE).await,
        }
        while passing.try_join_next().is_some() {}
    }
}

/// Serves one connection of the driver, from the door to the end.
async fn pass(mut driver: TcpStream, route: &Route) -> io::Result<()> {
    driver.set_nodelay(true)?;
    let place = door::admit(&mut driver, &route.key).await?;
    let dialled = dial::dial(&place, route).await;
    door::opened(&mut driver).await?;
    let (server, heard) = (place.shown(&route.sockets), &route.heard);
    match dialled {
        Ok(Dialled::Plain(stream)) => guard::carry(driver, stream, &server, heard).await,
        Ok(Dialled::Tls(stream)) => guard::carry(driver, *stream, &server, heard).await,
        Ok(Dialled::Socket(stream)) => guard::carry(driver, stream, &server, heard).await,
        Err(trouble) => {
            let said = format!("{server}: {trouble}");
            heard.away(&server, trouble);
            guard::answer_for(driver, &said).await
        }
    }
}

#[cfg(test)]
mod tests;
