//! How is a bucket reached, apart from its name?

use std::time::Duration;

use super::source::KeySource;

/// How a bucket is reached, apart from its address. Its `Debug` shows no secret.
#[derive(Debug, Clone, Default)]
pub struct BucketAccess {
    /// The service's address, e.g. `https://minio.example:9000`; `None` means AWS.
    pub endpoint: Option<String>,
    /// The bucket's region, which must be right for AWS.
    pub region: Option<String>,
    /// Where the bucket's name goes.
    pub addressing: Addressing,
    /// Whether parts carry a CRC32C.
    pub checksums: Checksums,
    /// How an object is written once.
    pub write_once: WriteOnce,
    /// Where the keys come from.
    pub credentials: Option<KeySource>,
    /// How long to wait, and how often to retry.
    pub patience: Patience,
}

/// Where a bucket's name goes in a request's address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Addressing {
    /// In the host for AWS, in the path for any other service.
    #[default]
    Auto,
    /// `https://endpoint/bucket/key`.
    Path,
    /// `https://bucket.endpoint/key`.
    VirtualHost,
}

/// Whether each part carries a CRC32C, which the service checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Checksums {
    /// Only for AWS; other services may not support it.
    #[default]
    Auto,
    /// Always.
    Crc32c,
    /// Never.
    None,
}

/// How an object is written only once: of two concurrent writers, one has to lose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WriteOnce {
    /// With the condition `If-None-Match: *`, which the service must support.
    #[default]
    Condition,
    /// By looking before and after the write. The operator accepts that both writers may succeed on a service without
    /// the condition.
    Looked,
}

/// How long to wait for a bucket, and how often to retry.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// The time limit for a small request: whether an object is there, or its removal.
    pub answer: Duration,
    /// The time limit for one part, in either direction.
    pub part: Duration,
    /// How often a request that failed in passing is retried.
    pub tries: usize,
    /// The pause before the first retry; it doubles each time.
    pub pause: Duration,
    /// The longest pause before a retry.
    pub pause_max: Duration,
}

impl Patience {
    /// Returns the patience for a caller who waits for an answer: no retries, and no request takes longer than this.
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
            // A dot in the name would not match the service's certificate.
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

    /// Returns the service's own address.
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
