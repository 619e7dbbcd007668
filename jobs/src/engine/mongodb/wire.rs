//! Our own way to a deployment: the driver's connections, made by us, and a guard that bounds what it reads.
//!
//! The driver takes a server's own word for how long a message may be, inflates a compressed one without end, and opens its
//! connections itself. Its one hook is a SOCKS5 proxy. So each client has a door on this machine that opens to it alone; behind
//! the door the connection is made, with TLS as the URL asks, and each answer's length is checked before the driver hears of it.

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
use super::error::MongodbError;
use crate::error::JobError;

/// The most connections of one client. More wait: a server may announce members by the thousand, each of which the driver watches.
const CONNECTIONS_MAX: usize = 512;
/// How long we wait before we take the next connection where the machine can take none.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// One client's way. Whoever holds it keeps it open.
#[derive(Debug)]
pub(super) struct Wire {
    serving: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Its connections go with it.
        self.serving.abort();
    }
}

/// How servers are reached.
#[derive(Debug)]
struct Route {
    key: Key,
    /// Stand-ins for sockets, which no SOCKS5 proxy is asked for, are numbered.
    sockets: Vec<PathBuf>,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
    heard: Heard,
}

impl Wire {
    /// Opens a way for a client, and has its options lead there. `timeout` bounds how long a connection may take to make.
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
            doing: "open a way to MongoDB on this machine",
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
            // Before the driver gives up: we can say what took so long.
            timeout: timeout.mul_f64(0.9),
            heard,
        };
        let serving = tokio::spawn(serve(listener, Arc::new(route)));
        Ok(Self { serving })
    }
}

/// Replaces Unix sockets by names that only we know, and returns the sockets in the names' order.
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
                    // Whatever goes wrong, the driver sees it as the end of its connection; `heard` knows why.
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
