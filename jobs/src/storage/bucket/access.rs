//! How is a bucket reached, besides its name?

use std::time::Duration;

use super::source::KeySource;

/// How a bucket is reached, besides its address. Its `Debug` shows no secret.
#[derive(Debug, Clone, Default)]
pub struct BucketAccess {
    /// Where the service is, e.g. `https://minio.example:9000`; `None` is AWS.
    pub endpoint: Option<String>,
    /// The bucket's region; AWS wants the right one.
    pub region: Option<String>,
    /// Where the bucket's name goes.
    pub addressing: Addressing,
    /// Whether parts carry a CRC32C.
    pub checksums: Checksums,
    /// How an object is written once.
    pub write_once: WriteOnce,
    /// Where the keys come from.
    pub credentials: Option<KeySource>,
    /// How long to wait, and how often to try.
    pub patience: Patience,
}

/// Where a bucket's name goes in a request's address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Addressing {
    /// Into the host for AWS, into the path for everybody else.
    #[default]
    Auto,
    /// `https://endpoint/bucket/key`.
    Path,
    /// `https://bucket.endpoint/key`.
    VirtualHost,
}

/// Whether each part carries a CRC32C that the service compares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Checksums {
    /// For AWS; other services may not know it.
    #[default]
    Auto,
    /// Always.
    Crc32c,
    /// Never.
    None,
}

/// How an object is written once: of two writers at the same instant, one has to lose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WriteOnce {
    /// By the condition `If-None-Match: *`, which the service must know.
    #[default]
    Condition,
    /// By looking before and after: somebody has accepted that a service without the condition may let both write.
    Looked,
}

/// How long to wait for a bucket, and how often to try.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For an answer to a question: is it there, remove it.
    pub answer: Duration,
    /// For one part, in either direction.
    pub part: Duration,
    /// How often what failed in passing is repeated.
    pub tries: usize,
    /// Before the first repetition; it doubles.
    pub pause: Duration,
    /// Before any.
    pub pause_max: Duration,
}

impl Patience {
    /// Returns the patience of somebody who waits for an answer: nothing is repeated, and nothing may take longer than this.
    #[must_use]
    pub fn brief(within: Duration) -> Self {
        Self {
            answer: within,
            part: within,
            tries: 0,
            ..Self::default()
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_mins(1),
            part: Duration::from_mins(3),
            tries: 6,
            pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(20),
        }
    }
}

impl BucketAccess {
    pub(super) fn is_path_style(&self, bucket: &str) -> bool {
        match self.addressing {
            Addressing::Path => true,
            Addressing::VirtualHost => false,
            // A dot in the name would not fit the service's certificate.
            Addressing::Auto => !self.is_aws() || bucket.contains('.'),
        }
    }

    pub(super) fn has_checksums(&self) -> bool {
        match self.checksums {
            Checksums::Crc32c => true,
            Checksums::None => false,
            Checksums::Auto => self.is_aws(),
        }
    }

    /// Returns the address of the service itself.
    pub(super) fn base(&self, region: &str) -> String {
        match &self.endpoint {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None => format!("https://s3.{region}.amazonaws.com"),
        }
    }

    fn is_aws(&self) -> bool {
        let Some(endpoint) = &self.endpoint else {
            return true;
        };
        let url = url::Url::parse(endpoint).ok();
        let host = url.as_ref().and_then(url::Url::host_str);
        host.is_some_and(|host| {
            host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
        })
    }
}
