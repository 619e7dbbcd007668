//! Is the server who its URL says, and may nobody listen? TLS around a connection.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{address::Tls, connection::broken, error::RedisError};
use crate::error::JobError;

/// Speaks TLS over `tcp`, and makes sure that the other end is `host`.
pub(super) async fn wrap(
    tcp: TcpStream,
    host: &str,
    tls: &Tls,
) -> Result<TlsStream<TcpStream>, JobError> {
    let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name).map_err(|_| RedisError::Address {
        why: "its host is no name that a certificate could have".to_owned(),
    })?;
    let files = tls.clone();
    // Certificates are files, many of them where they are the system's.
    let configured = tokio::task::spawn_blocking(move || configure(&files));
    let stopped = |_| JobError::Stopped {
        what: "the reading of certificates",
    };
    let configured = configured.await.map_err(stopped)??;
    let connected = TlsConnector::from(Arc::new(configured))
        .connect(name, tcp)
        .await;
    connected.map_err(|error| broken("agree on TLS", &error))
}

fn configure(tls: &Tls) -> Result<ClientConfig, RedisError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("tls", error))?;
    let builder = builder.with_root_certificates(trusted(tls.ca_file.as_deref())?);
    match (&tls.cert_file, &tls.key_file) {
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
            // Some of a system's certificates may be odd; without any, the handshake says so.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(store)
}

fn certificates(
    parameter: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, RedisError> {
    let found =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(|error| unusable(parameter, error))?;
    if found.is_empty() {
        return Err(unusable(
            parameter,
            io::Error::other("it holds no certificate"),
        ));
    }
    Ok(found)
}

fn unusable(parameter: &'static str, error: impl std::fmt::Display) -> RedisError {
    RedisError::TlsFile {
        parameter,
        why: error.to_string(),
    }
}
