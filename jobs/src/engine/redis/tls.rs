//! TLS around a connection: checks that the server is the one in the URL, and keeps others from listening.

use std::{path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::connection::{broken, no_answer};
use crate::{
    engine::{
        address::redis::{Address, Tls},
        tls,
    },
    error::{JobError, RedisError, ServerFault},
};

/// How long a TLS handshake may take. A server without TLS may wait for the end of a line in what we send.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(8);
/// How long finding out what the other end speaks instead may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// Speaks TLS over `tcp`, and checks that the other end is the server in the address.
pub(super) async fn wrap(
    tcp: TcpStream,
    address: &Address,
    tls: &Tls,
) -> Result<TlsStream<TcpStream>, JobError> {
    let agreed = tokio::time::timeout(HANDSHAKE_TIMEOUT, agree(tcp, &address.host, tls)).await;
    let doing = "negotiate TLS";
    let error = match agreed {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error @ JobError::Unreachable { .. })) => error,
        Ok(Err(error)) => return Err(error),
        Err(_) => no_answer(doing, HANDSHAKE_TIMEOUT),
    };
    let asked = tokio::time::timeout(ASK_TIMEOUT, speaks_plainly(address)).await;
    if asked.unwrap_or(false) {
        let server = address.server();
        return Err(RedisError::NoTls { server }.into());
    }
    Err(error)
}

/// Returns whether the server answers without TLS. Sends nothing but a `PING`.
async fn speaks_plainly(address: &Address) -> bool {
    let ask = async {
        let mut tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
        tcp.write_all(b"PING\r\n").await?;
        tcp.read_u8().await
    };
    matches!(ask.await, Ok(b'+' | b'-'))
}

/// Returns whether the server speaks TLS, whatever its certificate says.
pub(super) async fn is_spoken(address: &Address) -> bool {
    let ask = async {
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await;
        let tcp = tcp.map_err(|error| broken("connect", &error))?;
        agree(tcp, &address.host, &Tls::default()).await
    };
    matches!(
        tokio::time::timeout(ASK_TIMEOUT, ask).await,
        Ok(Ok(_) | Err(JobError::Redis(RedisError::Certificate { .. })))
    )
}

async fn agree(tcp: TcpStream, host: &str, tls: &Tls) -> Result<TlsStream<TcpStream>, JobError> {
    let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name).map_err(|_| RedisError::Address {
        why: "its host is not a name that a certificate could have".to_owned(),
    })?;
    let files = tls.clone();
    // Certificates are files, many of them if they are the system's.
    let configured = tokio::task::spawn_blocking(move || configure(&files));
    let stopped = |_| JobError::Stopped {
        what: "reading the certificates",
    };
    let configured = configured.await.map_err(stopped)??;
    let connected = TlsConnector::from(Arc::new(configured))
        .connect(name, tcp)
        .await;
    connected.map_err(|error| {
        if tls::refused_certificate(&error).is_some() {
            let source = ServerFault::new(error.to_string(), None);
            return RedisError::Certificate { source }.into();
        }
        broken("negotiate TLS", &error)
    })
}

fn configure(asked: &Tls) -> Result<ClientConfig, RedisError> {
    let builder = tls::builder().map_err(|error| unusable("tls", error))?;
    let builder = builder.with_root_certificates(trusted(asked.ca_file.as_deref())?);
    match (&asked.cert_file, &asked.key_file) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| unusable("tls-key-file", error))?;
            let chain = certificates("tls-cert-file", cert)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable("tls-cert-file", error))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn trusted(ca_file: Option<&Path>) -> Result<RootCertStore, RedisError> {
    let mut store = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in certificates("tls-ca-file", path)? {
                let added = store.add(certificate);
                added.map_err(|error| unusable("tls-ca-file", error))?;
            }
        }
        None => {
            // Some of the system's certificates may be unusable; if none is left, the handshake fails and says so.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(store)
}

fn certificates(
    parameter: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, RedisError> {
    tls::certificates(path).map_err(|why| unusable(parameter, why))
}

fn unusable(parameter: &'static str, error: impl std::fmt::Display) -> RedisError {
    RedisError::TlsFile {
        parameter,
        why: error.to_string(),
    }
}
