//! How is a request signed? At the last moment before it is sent, so that it can be signed and sent again when its keys
//! have just been replaced.
//!
//! `OpenDAL` would sign earlier, and would keep keys for as long as they claim to be valid, so its signing is disabled.

use std::sync::Arc;

use futures::StreamExt as _;
use http::{
    Method, Request, Response,
    header::{HOST, RANGE},
    request::Parts,
};
use opendal::{Buffer, ErrorKind, HttpBody, HttpTransport};
use opendal_http_transport_reqwest::ReqwestTransport;
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::{Context, SignRequest as _};

use super::held::{HeldKeys, NoKeys, Refusal};

/// The codes with which services refuse the keys themselves.
const OF_THE_KEYS: [&str; 7] = [
    "ExpiredToken",
    "TokenRefreshRequired",
    "InvalidToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "NotSignedUp",
    "SignatureDoesNotMatch",
];

/// More bytes than any service needs to explain a refusal.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// More bytes than any page of a listing, answer to a write, or object that is read at once.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Signs requests and sends them.
pub(super) struct Signing {
    inner: ReqwestTransport,
    keys: Arc<HeldKeys>,
    signer: RequestSigner,
}

impl Signing {
    pub(super) fn new(inner: ReqwestTransport, keys: Arc<HeldKeys>, region: &str) -> Self {
        Self {
            inner,
            keys,
            signer: RequestSigner::new("s3", region),
        }
    }

    async fn signed(
        &self,
        head: &Parts,
        body: &Buffer,
        keys: &Credential,
    ) -> opendal::Result<Request<Buffer>> {
        let mut head = head.clone();
        let signed = self
            .signer
            .sign_request(&Context::new(), &mut head, Some(keys), None)
            .await;
        signed.map_err(|error| {
            opendal::Error::new(
                ErrorKind::Unexpected,
                format!("the request cannot be signed: {error}"),
            )
        })?;
        // The client sets it in the form that its version of HTTP needs.
        head.headers.remove(HOST);
        Ok(Request::from_parts(head, body.clone()))
    }
}

impl HttpTransport for Signing {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let (head, body) = request.into_parts();
        let keys = self.keys.current().await.map_err(unsigned)?;
        let sent = self.signed(&head, &body, &keys).await?;
        let answer = bounded(&head, self.inner.fetch(sent).await?);
        let (answer, refusal) = heard(&head.method, answer).await?;
        let Some(refusal) = refusal else {
            return Ok(answer);
        };
        match self.keys.other_than(&keys, refusal).await {
            Some(others) => {
                let again = self.signed(&head, &body, &others).await?;
                Ok(bounded(&head, self.inner.fetch(again).await?))
            }
            None => Ok(answer),
        }
    }
}

/// Bounds an answer, whatever length the server announces. Every answer is collected in memory, and an object's bytes
/// are read in ranges.
fn bounded(asked: &Parts, answer: Response<HttpBody>) -> Response<HttpBody> {
    let is_whole = |query: &str| {
        let words = ["list-type", "uploads", "uploadId"];
        words.iter().any(|word| query.contains(word))
    };
    let is_object = asked.method == Method::GET && !asked.uri.query().is_some_and(is_whole);
    let most = match (answer.status().is_success(), is_object) {
        (true, true) => range(asked).unwrap_or(ANSWER_BYTES_MAX),
        (true, false) => ANSWER_BYTES_MAX,
        (false, _) => REFUSAL_BYTES_MAX,
    };
    answer.map(|body| {
        body.map_inner(|parts| {
            let mut left = most;
            Box::new(parts.map(move |part| {
                let part = part?;
                left = left.checked_sub(part.len()).ok_or_else(|| {
                    opendal::Error::new(
                        ErrorKind::Unexpected,
                        format!("the store's answer is longer than {most} bytes"),
                    )
                })?;
                Ok(part)
            }))
        })
    })
}

/// Returns how many bytes of an object were requested. `None` means all of them, which is requested only for small
/// objects.
fn range(asked: &Parts) -> Option<usize> {
    let range = asked.headers.get(RANGE)?.to_str().ok()?;
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    last.checked_sub(first)?.checked_add(1)
}

/// Returns the answer unchanged, and what it refuses, if anything.
async fn heard(
    method: &Method,
    answer: Response<HttpBody>,
) -> opendal::Result<(Response<HttpBody>, Option<Refusal>)> {
    let status = answer.status().as_u16();
    if !matches!(status, 400 | 401 | 403) {
        return Ok((answer, None));
    }
    let (head, mut body) = answer.into_parts();
    let words = body.to_buffer().await?;
    let said = String::from_utf8_lossy(&words.to_bytes()).into_owned();
    let is_of_the_keys = OF_THE_KEYS.iter().any(|code| said.contains(code));
    let refusal = match (is_of_the_keys, status) {
        (true, _) => Some(Refusal::OfTheKeys),
        (false, 401 | 403) => Some(Refusal::OfTheRequest),
        // The answer to a HEAD has no body that could give a reason.
        (false, _) if method == Method::HEAD => Some(Refusal::OfTheRequest),
        (false, _) => None,
    };
    let size = u64::try_from(words.len()).ok();
    let body = HttpBody::new(futures::stream::iter([Ok(words)]), size);
    Ok((Response::from_parts(head, body), refusal))
}

/// Returns the error for a request that was not signed. It is not temporary, so nothing retries it as it retries the
/// store's failures: the lender has already been asked again.
fn unsigned(why: NoKeys) -> opendal::Error {
    opendal::Error::new(ErrorKind::Unexpected, "no keys").set_source(why)
}
