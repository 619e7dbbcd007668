//! TLS, as strict as the address's mode asks: whether the server offers it, and whether the server is the one in the
//! URL.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{Carrier, NoSession, broken, odd};
use crate::{
    engine::{
        address::postgres::{Address, SslMode},
        tls::{self, Anybody},
    },
    error::ServerFault,
};

/// The server's answer to the request for TLS.
pub(super) enum Offer {
    Yes(TcpStream),
    No(TcpStream),
}

/// Asks whether the server speaks TLS. Reads a single byte, so that bytes from before the handshake never pass for
/// encrypted ones.
pub(super) async fn offered(mut tcp: TcpStream) -> Result<Offer, NoSession> {
    let mut question = bytes::BytesMut::new();
    postgres_protocol::message::frontend::ssl_request(&mut question);
    let asked = async {
        tcp.write_all(&question).await?;
        tcp.read_u8().await
    };
    match asked.await.map_err(|error| broken(&error))? {
        b'S' => Ok(Offer::Yes(tcp)),
        b'N' => Ok(Offer::No(tcp)),
        _ => Err(odd(
            "the server answered the request for TLS with neither yes nor no: this is not a PostgreSQL server, or it is \
             too busy",
        )),
    }
}

/// Speaks TLS over `tcp`, and returns the hash that binds a password to the server's certificate, if it has one.
pub(super) async fn wrap(
    tcp: TcpStream,
    host: &str,
    address: &Address,
) -> Result<(Box<dyn Carrier>, Option<Vec<u8>>), NoSession> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        NoSession::Impossible("its host is not a name that a certificate could have".to_owned())
    })?;
    let check = Check::of(address);
    // Certificates are files, many of them if they are the system's.
    let configured = tokio::task::spawn_blocking(move || configure(check));
    let configured = configured
        .await
        .map_err(|_| odd("reading the certificates stopped before it finished"))??;
    let connected = TlsConnector::from(Arc::new(configured))
        .connect(name, tcp)
        .await;
    let stream = connected.map_err(|error| failed(&error))?;
    let certificates = stream.get_ref().1.peer_certificates();
    let binding = certificates
        .and_then(|all| all.first())
        .and_then(|it| end_point(it));
    Ok((Box::new(stream), binding))
}

/// What to check in the server's certificate, and against what.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Check {
    Nothing,
    Chain(Trusted),
    ChainAndName(Trusted),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Trusted {
    System,
    File(PathBuf),
}

impl Check {
    fn of(address: &Address) -> Self {
        let trusted = match address.ca_file() {
            Some(file) => Trusted::File(file.into()),
            None => Trusted::System,
        };
        match address.ssl_mode() {
            SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require => Self::Nothing,
            SslMode::VerifyCa => Self::Chain(trusted),
            SslMode::VerifyFull => Self::ChainAndName(trusted),
        }
    }
}

fn configure(check: Check) -> Result<ClientConfig, NoSession> {
    let builder = tls::builder().map_err(|error| odd(error.to_string()))?;
    let (trusted, checks_name) = match check {
        Check::Nothing => {
            let builder = builder.dangerous();
            let anybody = Arc::new(Anybody(tls::provider()));
            return Ok(builder
                .with_custom_certificate_verifier(anybody)
                .with_no_client_auth());
        }
        Check::Chain(trusted) => (trusted, false),
        Check::ChainAndName(trusted) => (trusted, true),
    };
    let certificates = certificates(&trusted)?;
    let mut roots = RootCertStore::empty();
    // Some of the system's certificates may be unusable; if none is left, the handshake fails and says so.
    roots.add_parsable_certificates(certificates.iter().cloned());
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls::provider())
        .build()
        .map_err(|error| unusable(&error.to_string()))?;
    let known = Known {
        chain,
        pinned: match trusted {
            Trusted::System => Vec::new(),
            Trusted::File(_) => certificates,
        },
        checks_name,
    };
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(known))
        .with_no_client_auth())
}

fn certificates(trusted: &Trusted) -> Result<Vec<CertificateDer<'static>>, NoSession> {
    let Trusted::File(path) = trusted else {
        return Ok(rustls_native_certs::load_native_certs().certs);
    };
    tls::certificates(path).map_err(|why| unusable(&why))
}

fn unusable(why: &str) -> NoSession {
    NoSession::Impossible(format!("the file of its sslrootcert cannot be used: {why}"))
}

/// Returns what a failed handshake means.
fn failed(error: &std::io::Error) -> NoSession {
    match tls::refused_certificate(error) {
        Some(_) => NoSession::Untrusted(ServerFault::new(error.to_string(), None)),
        None => broken(error),
    }
}

/// Accepts a certificate that is signed by a trusted one, or is itself a trusted one, and checks its name if asked to.
#[derive(Debug)]
struct Known {
    chain: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
    checks_name: bool,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            // The trusted file has the server's own certificate: a chain of one, which libpq accepts too.
            if self.checks_name {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        let verified = self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // The name is checked last: everything else was right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Returns the hash that RFC 5929 calls `tls-server-end-point`: of the certificate, with the hash function of its
/// signature.
///
/// `None` for signatures without a hash function, such as Ed25519.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
    let (whole, _) = element(certificate)?;
    let (_signed, rest) = element(whole)?;
    let (algorithm, _) = element(rest)?;
    let (oid, _) = element(algorithm)?;
    let strip = |prefix: &[u8]| oid.strip_prefix(prefix);
    match (strip(RSA), strip(ECDSA)) {
        // SHA-256 takes the place of MD5 and SHA-1.
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => {
            Some(Sha256::digest(certificate).to_vec())
        }
        (Some([12]), _) | (_, Some([3, 3])) => Some(Sha384::digest(certificate).to_vec()),
        (Some([13]), _) | (_, Some([3, 4])) => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

/// Splits DER into the contents of its first element and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = length
                .iter()
                .fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}
