//! Connects to a server: name resolution, TCP, and TLS if the URL asks for it, within one deadline.

use std::{io, net::SocketAddr, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    time::{sleep, timeout},
};
use tokio_rustls::client::TlsStream;

use super::{Route, door::Place, heard::Trouble, tls};

/// How long one address is tried alone before the next is tried as well.
const HEAD_START: Duration = Duration::from_millis(250);
/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 32;
/// How long a connection may be silent before the system probes the other end.
const KEEPALIVE: Duration = Duration::from_mins(2);

/// A connection to a server.
pub(super) enum Dialled {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Socket(UnixStream),
}

pub(super) async fn dial(place: &Place, route: &Route) -> Result<Dialled, Trouble> {
    let dialled = timeout(route.timeout, connect(place, route)).await;
    dialled.unwrap_or_else(|_| {
        let seconds = route.timeout.as_secs_f32();
        Err(Trouble::Away(format!(
            "no connection within {seconds:.1} s"
        )))
    })
}

async fn connect(place: &Place, route: &Route) -> Result<Dialled, Trouble> {
    let away = |error: io::Error| Trouble::Away(error.to_string());
    if let Some(path) = place.socket().and_then(|it| route.sockets.get(it)) {
        let stream = UnixStream::connect(path).await.map_err(away)?;
        return Ok(Dialled::Socket(stream));
    }
    let found = lookup_host((place.host.as_str(), place.port)).await;
    let addresses = found.map_err(away)?.take(ADDRESSES_MAX);
    let tcp = first_of(addresses.collect()).await.map_err(away)?;
    tcp.set_nodelay(true).map_err(away)?;
    keep_alive(&tcp).map_err(away)?;
    match &route.tls {
        Some(config) => {
            let stream = tls::wrap(tcp, &place.host, config.clone()).await?;
            Ok(Dialled::Tls(Box::new(stream)))
        }
        None => Ok(Dialled::Plain(tcp)),
    }
}

/// Returns the first connection that succeeds. Each address has a head start over the next, unless all before have
/// failed.
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut racing = FuturesUnordered::new();
    let mut failed = None;
    for address in addresses {
        racing.push(TcpStream::connect(address));
        let head_start = sleep(HEAD_START);
        tokio::pin!(head_start);
        loop {
            tokio::select! {
                ended = racing.next() => match ended {
                    Some(Ok(stream)) => return Ok(stream),
                    Some(Err(error)) => {
                        failed.get_or_insert(error);
                    }
                    None => break,
                },
                () = &mut head_start => break,
            }
        }
    }
    while let Some(ended) = racing.next().await {
        match ended {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
    }
    Err(failed.unwrap_or_else(|| io::Error::other("its name resolves to no address")))
}

fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_keepalive(tcp, true)?;
    rustix::net::sockopt::set_tcp_keepidle(tcp, KEEPALIVE)?;
    Ok(())
}
