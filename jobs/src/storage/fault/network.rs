//! Why was there no answer, and what helps?

use std::{error::Error, io};

use rustls::CertificateError;

/// How the HTTP client names its resolver's errors, whose type is private.
const NAME_NOT_FOUND: &str = "dns error";

/// Returns advice on a connection that failed, if the cause is known.
pub(super) fn advice(error: &opendal::Error) -> Option<&'static str> {
    causes(error).find_map(advice_on)
}

/// Returns whether this is a network error, which says nothing about the store's disk or rights.
pub(super) fn is_of_the_network(error: &opendal::Error) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<reqwest::Error>().is_some())
}

/// Returns an error and all its causes, including those hidden inside io errors.
fn causes(error: &opendal::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: Option<&(dyn Error + 'static)> = Some(error);
    std::iter::successors(first, |error| next(*error))
}

fn next<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

fn advice_on(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return on_tls(error);
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return on_connection(error.kind());
    }
    cause.to_string().starts_with(NAME_NOT_FOUND).then_some(
        "no server has that name: correct the endpoint, or check this machine's name resolution",
    )
}

fn on_tls(error: &rustls::Error) -> Option<&'static str> {
    use rustls::Error as Tls;
    if let Tls::InvalidMessage(_) = error {
        return Some(
            "the server does not speak TLS: is the endpoint http:// rather than https://?",
        );
    }
    let Tls::InvalidCertificate(why) = error else {
        return None;
    };
    Some(if matches!(why, CertificateError::UnknownIssuer) {
        "this machine does not trust the authority that signed the server's certificate: install its certificate, or name the file in SSL_CERT_FILE"
    } else if matches!(
        why,
        CertificateError::Expired | CertificateError::ExpiredContext { .. }
    ) {
        "the server's certificate has expired, or this machine's clock is wrong"
    } else if matches!(
        why,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    ) {
        "the server's certificate is for another name: correct the endpoint"
    } else {
        "the server's certificate is not valid"
    })
}

fn on_connection(kind: io::ErrorKind) -> Option<&'static str> {
    if kind == io::ErrorKind::ConnectionRefused {
        return Some("nothing listens there: correct the endpoint, or start the service");
    }
    if kind == io::ErrorKind::TimedOut {
        return Some(
            "no answer from there: a firewall drops the packets, or the endpoint is wrong",
        );
    }
    let is_no_way = [
        io::ErrorKind::HostUnreachable,
        io::ErrorKind::NetworkUnreachable,
    ]
    .contains(&kind);
    is_no_way.then_some(
        "there is no route to it: check the network between this machine and the endpoint",
    )
}
