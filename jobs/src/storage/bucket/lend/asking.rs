//! Which files and addresses may a lender's client use, and for how long?

use std::{io, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use reqsign_core::{Error, FileRead, HttpSend, Result};
use tokio::io::AsyncReadExt as _;
use url::{Host, Url};

use crate::{error::JobError, storage::bucket::client};

/// How long a lender may take to answer.
const WITHIN: Duration = Duration::from_secs(5);
/// More bytes than any keys, token or profile have.
const BYTES_MAX: u64 = 1024 * 1024;

/// Reads tokens and profiles.
#[derive(Debug)]
pub(super) struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> Result<Vec<u8>> {
        let reading = async {
            let mut bytes = Vec::new();
            let file = tokio::fs::File::open(path).await?;
            file.take(BYTES_MAX).read_to_end(&mut bytes).await?;
            Ok::<_, io::Error>(bytes)
        };
        let read = tokio::time::timeout(WITHIN, reading).await;
        let read = read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        read.map_err(|error| Error::unexpected("cannot read a file").with_source(error))
    }
}

/// Sends a lender's requests.
#[derive(Debug)]
pub(super) struct Asking {
    /// For addresses on this machine or its link: uses no proxy.
    direct: reqwest::Client,
    client: reqwest::Client,
    /// Replaces AWS's own STS.
    sts: Option<String>,
}

impl Asking {
    pub(super) fn new(sts: Option<String>) -> std::result::Result<Self, JobError> {
        Ok(Self {
            direct: client(|client| client.timeout(WITHIN).no_proxy())?,
            client: client(|client| client.timeout(WITHIN))?,
            sts,
        })
    }

    /// Returns the address to ask. Plain HTTP is allowed only for a nearby address, or for one that was configured.
    fn meant(&self, uri: &Uri) -> Result<Url> {
        let bad = |text: &str| Error::config_invalid(format!("{text} is not a valid URL"));
        if let Some(sts) = &self.sts {
            return Url::parse(sts).map_err(|_| bad("AWS_ENDPOINT_URL_STS"));
        }
        let url = Url::parse(&uri.to_string()).map_err(|_| bad("the lender's address"))?;
        if url.scheme() == "https" || is_near(&url) {
            return Ok(url);
        }
        Err(Error::config_invalid(format!(
            "{} is asked only over https: over http, keys would cross the network in clear text",
            url.host_str().unwrap_or_default()
        )))
    }
}

impl HttpSend for Asking {
    async fn http_send(&self, request: Request<Bytes>) -> Result<Response<Bytes>> {
        let (head, body) = request.into_parts();
        let url = self.meant(&head.uri)?;
        let failed = |error: reqwest::Error| {
            Error::unexpected("it does not answer")
                .with_source(error.without_url())
                .set_retryable(true)
        };
        let client = if url.scheme() == "https" {
            &self.client
        } else {
            &self.direct
        };
        let asked = client.request(head.method, url).headers(head.headers);
        let mut answer = asked.body(body).send().await.map_err(failed)?;
        let mut bytes = Vec::new();
        while let Some(some) = answer.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&some);
            if bytes.len() as u64 > BYTES_MAX {
                return Err(Error::unexpected("its answer is too long to be keys"));
            }
        }
        let mut told = Response::new(Bytes::from(bytes));
        *told.status_mut() = answer.status();
        Ok(told)
    }
}

/// Returns whether an address is on this machine or its link, where clouds put their metadata services.
fn is_near(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_link_local(),
        Some(Host::Ipv6(ip)) => {
            // fd00:ec2::/32 belongs to EC2.
            ip.is_loopback()
                || ip.is_unicast_link_local()
                || ip.segments().starts_with(&[0xfd00, 0xec2])
        }
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::ecs("http://169.254.170.2/v2/credentials", true)]
    #[case::eks("http://[fd00:ec2::23]/v1/credentials", true)]
    #[case::loopback("http://127.0.0.1:1338/x", true)]
    #[case::elsewhere("http://10.0.0.7/x", false)]
    #[case::a_name("http://keys.example/x", false)]
    #[case::encrypted("https://keys.example/x", true)]
    fn keys_cross_no_network_in_clear(#[case] uri: &str, #[case] is_asked: bool) {
        let asking = Asking::new(None).unwrap();
        assert_eq!(asking.meant(&uri.parse().unwrap()).is_ok(), is_asked);
    }
}
