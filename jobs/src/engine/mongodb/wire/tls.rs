//! TLS as the options ask for it, with the authorities that the driver itself would trust.

use std::{io, path::Path, sync::Arc};

use mongodb::options::TlsOptions;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{MongodbError, heard::Trouble};
use crate::{
    engine::tls::{self, Anybody},
    error::JobError,
};

/// Reads the certificates that the options name. They are files, so this runs outside the async runtime.
pub(super) async fn configured(asked: TlsOptions) -> Result<Arc<ClientConfig>, JobError> {
    let configured = tokio::task::spawn_blocking(move || configure(&asked)).await;
    let stopped = |_| JobError::Stopped {
        what: "reading the certificates",
    };
    Ok(Arc::new(configured.map_err(stopped)??))
}

/// Speaks TLS over a connection, and checks that the other end is the host.
pub(super) async fn wrap(
    tcp: TcpStream,
    host: &str,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, Trouble> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        Trouble::Away("its host is not a name that a certificate could have".into())
    })?;
    let agreed = TlsConnector::from(config).connect(name, tcp).await;
    agreed.map_err(|error| failed(&error))
}

fn failed(error: &io::Error) -> Trouble {
    match tls::refused_certificate(error) {
        Some(why) => Trouble::Certificate(format!("{why:?}")),
        None => Trouble::Away(format!(
            "the TLS handshake failed ({error}): check that the server speaks TLS on this port"
        )),
    }
}

fn configure(asked: &TlsOptions) -> Result<ClientConfig, MongodbError> {
    let builder = tls::builder().map_err(|error| unusable("tls", error))?;
    let builder = builder.with_root_certificates(trusted(asked.ca_file_path.as_deref())?);
    let mut config = match &asked.cert_key_file_path {
        Some(path) => {
            let of_file = "tlsCertificateKeyFile";
            let chain = tls::certificates(path).map_err(|why| unusable(of_file, why))?;
            let key =
                PrivateKeyDer::from_pem_file(path).map_err(|error| unusable(of_file, error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable(of_file, error))?
        }
        None => builder.with_no_client_auth(),
    };
    if asked.allow_invalid_certificates == Some(true) {
        let anybody = Arc::new(Anybody(tls::provider()));
        config.dangerous().set_certificate_verifier(anybody);
    }
    Ok(config)
}

fn trusted(ca_file: Option<&Path>) -> Result<RootCertStore, MongodbError> {
    let mut store = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let found = tls::certificates(path).map_err(|why| unusable("tlsCAFile", why))?;
            // Some certificates of a bundle may be unusable; if none is left, the handshake fails and says so.
            store.add_parsable_certificates(found);
        }
        None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    Ok(store)
}

fn unusable(option: &str, why: impl std::fmt::Display) -> MongodbError {
    MongodbError::Address {
        why: format!("the file of its {option} cannot be used: {why}"),
    }
}
