//! Which uploads to a bucket were begun, but neither finished nor aborted?
//!
//! They cost money, and no listing of objects shows them. `OpenDAL` does not support them, so this module speaks S3's
//! own protocol.

use std::{
    fmt::{self, Write as _},
    sync::Once,
};

use chrono::{DateTime, Utc};
use http::{Method, Request, Response, header::CONTENT_LENGTH};
use opendal::{Buffer, ErrorKind, HttpTransporter};
use serde::Deserialize;

use super::{BucketAccess, Patience};
use crate::{
    error::{JobError, StoreFault},
    object_key::ObjectKey,
    storage::fault::{failure, refused},
};

/// The hash that S3 expects for an empty body.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// A larger answer is not a page of a listing.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
const LIST: &str = "list unfinished uploads below";
const ABORT: &str = "abort the upload of";

/// A client for a bucket's unfinished uploads.
pub(in crate::storage) struct Uploads {
    /// `https://endpoint/bucket` or `https://bucket.endpoint`.
    bucket: String,
    /// The prefix of every key: empty, or ending with a slash.
    prefix: String,
    /// Signs the requests.
    transport: HttpTransporter,
    patience: Patience,
    /// Logged once only, because the listing is requested before every backup.
    cannot_list: Once,
}

/// An upload that was begun, but neither finished nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::storage) struct Pending {
    /// The key in the store of the object that it would make.
    pub(in crate::storage) key: String,
    id: String,
    pub(in crate::storage) began: Option<DateTime<Utc>>,
}

impl Uploads {
    pub(super) fn new(
        name: &str,
        prefix: &str,
        region: &str,
        access: &BucketAccess,
        transport: HttpTransporter,
    ) -> Self {
        let base = access.base(region);
        let bucket = if access.is_path_style(name) {
            format!("{base}/{name}")
        } else {
            base.replacen("://", &format!("://{name}."), 1)
        };
        Self {
            bucket,
            prefix: match prefix {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            },
            transport,
            patience: access.patience,
            cannot_list: Once::new(),
        }
    }

    /// Returns an object's address.
    pub(super) fn address(&self, key: &str) -> String {
        let key = format!("{}{key}", self.prefix);
        let path = key.split('/').map(encoded).collect::<Vec<_>>().join("/");
        format!("{}/{path}", self.bucket)
    }

    /// Returns the unfinished uploads whose keys begin with `below`. Empty if the store cannot list them.
    pub(in crate::storage) async fn list(&self, below: &str) -> Result<Vec<Pending>, JobError> {
        let mut found = Vec::new();
        let mut marker = None::<(String, String)>;
        loop {
            let mut query = format!(
                "{}?uploads=&prefix={}{}",
                self.bucket,
                encoded(&self.prefix),
                encoded(below)
            );
            if let Some((key, id)) = &marker {
                let _infallible = write!(
                    query,
                    "&key-marker={}&upload-id-marker={}",
                    encoded(key),
                    encoded(id)
                );
            }
            let Answer::Body(page) = self.ask(LIST, below, Method::GET, &query).await? else {
                self.cannot_list.call_once(|| {
                    tracing::warn!(
                        "the store cannot list unfinished uploads: give it a lifecycle rule that aborts them after a day"
                    );
                });
                return Ok(found);
            };
            let page = read_page(below, &page)?;
            found.extend(page.uploads.into_iter().filter_map(|upload| {
                let key = upload.key.strip_prefix(&self.prefix)?.to_owned();
                // A server may ignore the prefix.
                // And keys that are not lastgood's must not become part of an address.
                let is_ours = key.starts_with(below) && key.parse::<ObjectKey>().is_ok();
                is_ours.then(|| Pending {
                    key,
                    id: upload.upload_id,
                    began: upload.initiated.and_then(|at| at.parse().ok()),
                })
            }));
            let next = (page.next_key_marker, page.next_upload_id_marker);
            // A page that leads back to itself would be read for ever.
            if !page.is_truncated || next.0.is_empty() || marker.as_ref() == Some(&next) {
                return Ok(found);
            }
            marker = Some(next);
        }
    }

    /// Aborts an upload. Succeeds if it is already gone.
    pub(in crate::storage) async fn abort(&self, upload: &Pending) -> Result<(), JobError> {
        let target = format!(
            "{}?uploadId={}",
            self.address(&upload.key),
            encoded(&upload.id)
        );
        let asked = self.ask(ABORT, &upload.key, Method::DELETE, &target).await;
        asked.map(drop)
    }

    /// Sends a request, with retries, and returns the answer.
    async fn ask(
        &self,
        doing: &'static str,
        key: &str,
        method: Method,
        target: &str,
    ) -> Result<Answer, JobError> {
        let mut pause = self.patience.pause;
        for _ in 0..self.patience.tries {
            match self.ask_once(doing, key, &method, target).await {
                Err(Unanswered::InPassing(error)) => {
                    tracing::debug!(error = error.report(), "retrying a request");
                }
                Err(Unanswered::ForGood(error)) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.patience.pause_max);
        }
        self.ask_once(doing, key, &method, target)
            .await
            .map_err(|(Unanswered::InPassing(error) | Unanswered::ForGood(error))| error)
    }

    async fn ask_once(
        &self,
        doing: &'static str,
        key: &str,
        method: &Method,
        target: &str,
    ) -> Result<Answer, Unanswered> {
        let fault = |why: String| JobError::Store {
            doing,
            key: key.to_owned(),
            source: StoreFault(why),
        };
        let request = request(method, target);
        let request = request.map_err(|error| Unanswered::ForGood(fault(error.to_string())))?;
        let answer = tokio::time::timeout(self.patience.answer, self.transport.send(request)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_temporary() => {
                return Err(Unanswered::InPassing(failure(doing, key, &error)));
            }
            Ok(Err(error)) => return Err(Unanswered::ForGood(failure(doing, key, &error))),
            Err(_) => return Err(Unanswered::InPassing(fault("no answer in time".to_owned()))),
        };
        match answer.status().as_u16() {
            200..=299 => Ok(Answer::Body(answer.into_body())),
            404 if *method == Method::DELETE => Ok(Answer::Gone),
            405 | 501 => Ok(Answer::Unknown),
            429 | 500 | 502..=504 => Err(Unanswered::InPassing(refusal(doing, key, answer))),
            _ => Err(Unanswered::ForGood(refusal(doing, key, answer))),
        }
    }
}

fn request(method: &Method, target: &str) -> http::Result<Request<Buffer>> {
    Request::builder()
        .method(method)
        .uri(target)
        .header("x-amz-content-sha256", EMPTY_SHA256)
        .header(CONTENT_LENGTH, 0)
        .body(Buffer::new())
}

/// A store's answer.
enum Answer {
    Body(Buffer),
    /// The upload no longer exists.
    Gone,
    /// The store does not support the request.
    Unknown,
}

/// Why there is no answer, and whether asking again may help.
enum Unanswered {
    InPassing(JobError),
    ForGood(JobError),
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads")
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

fn refusal(doing: &'static str, key: &str, answer: Response<Buffer>) -> JobError {
    let status = answer.status();
    let kind = match status.as_u16() {
        401 | 403 => ErrorKind::PermissionDenied,
        404 => ErrorKind::ConfigInvalid,
        _ => ErrorKind::Unexpected,
    };
    let body = answer.into_body().to_bytes();
    let body = body.get(..body.len().min(1000)).unwrap_or_default();
    refused(
        doing,
        key,
        kind,
        &format!("{status}: {}", String::from_utf8_lossy(body)),
    )
}

fn read_page(below: &str, page: &Buffer) -> Result<Page, JobError> {
    let unread = |why: String| JobError::Store {
        doing: LIST,
        key: below.to_owned(),
        source: StoreFault(format!("its answer cannot be read: {why}")),
    };
    if page.len() > PAGE_BYTES_MAX {
        return Err(unread(format!("it has {} bytes", page.len())));
    }
    quick_xml::de::from_reader(&*page.to_bytes()).map_err(|error| unread(error.to_string()))
}

/// S3's answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: String,
    #[serde(default)]
    next_upload_id_marker: String,
    #[serde(rename = "Upload", default)]
    uploads: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    key: String,
    upload_id: String,
    initiated: Option<String>,
}

/// Percent-encodes everything except what a signature leaves as it is.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _infallible = write!(encoded, "%{byte:02X}");
            }
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_uploads_is_read_whatever_is_left_out() -> anyhow::Result<()> {
        let page = read_page(
            "v1/",
            &Buffer::from(
                r#"<?xml version="1.0" encoding="UTF-8"?><ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
                <Bucket>b</Bucket><KeyMarker></KeyMarker><UploadIdMarker/><NextKeyMarker>v1/k</NextKeyMarker>
                <NextUploadIdMarker>id</NextUploadIdMarker><MaxUploads>1000</MaxUploads><IsTruncated>true</IsTruncated>
                <Upload><Key>v1/k</Key><UploadId>id</UploadId><Initiator><ID>x</ID></Initiator>
                <Initiated>2026-03-04T05:06:07.000Z</Initiated></Upload><Upload><Key>v1/l</Key><UploadId>jd</UploadId></Upload>
                </ListMultipartUploadsResult>"#,
            ),
        )?;
        assert!(page.is_truncated);
        assert_eq!(
            (
                page.next_key_marker.as_str(),
                page.next_upload_id_marker.as_str()
            ),
            ("v1/k", "id")
        );
        let keys: Vec<&str> = page
            .uploads
            .iter()
            .map(|upload| upload.key.as_str())
            .collect();
        assert_eq!(keys, ["v1/k", "v1/l"]);
        assert!(read_page("v1/", &Buffer::from("<html>busy")).is_err());
        Ok(())
    }

    #[test]
    fn what_a_signature_would_change_is_encoded() {
        assert_eq!(encoded("v1/a b+c~é"), "v1%2Fa%20b%2Bc~%C3%A9");
    }
}
