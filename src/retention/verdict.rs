//! The decision about a restore point, in words that an operator can act on.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::Window;

/// The decision about one restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The point.
    pub point: Uuid,
    /// The decision.
    pub decision: Decision,
}

/// Whether a restore point is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is kept.
    Keep(Kept),
    /// It expires.
    Expire(Expired),
}

impl Decision {
    /// Returns whether the point is kept.
    #[must_use]
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep(_))
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(kept) => kept.fmt(f),
            Self::Expire(expired) => expired.fmt(f),
        }
    }
}

/// Why a restore point is kept. The serialized names must never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Kept {
    /// It is under a legal hold.
    Held,
    /// An operator pinned it.
    Pinned,
    /// A restore from it is queued or running.
    InRestore,
    /// Its time is in the future, because some clock was wrong.
    InFuture,
    /// It is the newest trusted point of a live resource or, without a trusted one, its newest suspect point.
    Newest,
    /// It is the newest proven trusted point of a live resource.
    NewestProven,
    /// It is one of the newest few, which are kept however old.
    Minimum {
        /// How many these are.
        number: u32,
    },
    /// A newer point has less than half its size, and nobody has confirmed that one.
    BeforeShrunk,
    /// It is younger than the retention.
    Within {
        /// The retention in days.
        days: i32,
        /// When the retention ends.
        until: DateTime<Utc>,
    },
    /// It is younger than a day, and so not thinned out yet.
    Young {
        /// When it may be thinned out.
        until: DateTime<Utc>,
    },
    /// It is the newest of a window that counts.
    Stands {
        /// The window that counts longest.
        window: Window,
        /// When that window no longer counts.
        until: DateTime<Utc>,
    },
    /// A promise from before a change still holds in its grace period.
    Grace {
        /// When the grace period ends.
        until: DateTime<Utc>,
    },
    /// Retention first saw the resource recently, or saw it again after a long pause: none of its points expires in the grace period.
    FirstSeen {
        /// When the grace period ends.
        until: DateTime<Utc>,
    },
    /// New backups are vetoed; this point is kept for as long as was promised before.
    Former {
        /// When that promise ends.
        until: DateTime<Utc>,
    },
    /// The retention is zero or less, and was never more.
    NoPromise,
    /// The plans do not know the tier.
    UnknownTier,
    /// The resource was rebuilt from manifests and has no connection.
    Unconnected,
}

impl Kept {
    /// Returns when the promise that keeps the point ends at the latest; `None` if that does not depend on time.
    #[must_use]
    pub fn until(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Within { until, .. }
            | Self::Young { until }
            | Self::Stands { until, .. }
            | Self::Grace { until }
            | Self::FirstSeen { until }
            | Self::Former { until } => Some(*until),
            Self::Held
            | Self::Pinned
            | Self::InRestore
            | Self::InFuture
            | Self::Newest
            | Self::NewestProven
            | Self::Minimum { .. }
            | Self::BeforeShrunk
            | Self::NoPromise
            | Self::UnknownTier
            | Self::Unconnected => None,
        }
    }

    /// Returns whether somebody asked to keep the point. This reason is shown even if a promise keeps the point too.
    pub(super) fn is_asked_for(&self) -> bool {
        matches!(self, Self::Held | Self::Pinned)
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("on legal hold"),
            Self::Pinned => f.write_str("pinned"),
            Self::InRestore => f.write_str("a restore from it is queued or running"),
            Self::InFuture => {
                f.write_str("dated in the future, because a clock was wrong: kept until that time has passed")
            }
            Self::Newest => f.write_str("the newest usable one of a live resource: never removed"),
            Self::NewestProven => {
                f.write_str("the newest proven one of a live resource: never removed")
            }
            Self::Minimum { number: 1 } => f.write_str("the newest is kept, however old"),
            Self::Minimum { number } => write!(f, "the newest {number} are kept, however old"),
            Self::BeforeShrunk => f.write_str(
                "a newer one has less than half of the bytes: kept until that one is confirmed with `lastgood point confirm`, or has \
                 expired",
            ),
            Self::Within { days, .. } => write!(f, "within the promised {days} days"),
            Self::Young { .. } => f.write_str("younger than a day: not thinned out yet"),
            Self::Stands { window, .. } => {
                write!(f, "the newest of its {}", window.as_str())
            }
            Self::Grace { .. } => {
                f.write_str("the tier or the plan changed: the earlier promise still holds for a while")
            }
            Self::FirstSeen { .. } => f.write_str(
                "retention first saw its resource recently, or saw it again after a day or more: nothing expires for a \
                 while",
            ),
            Self::Former { .. } => {
                f.write_str("the retention is now 0: kept for as long as was promised before")
            }
            Self::NoPromise => f.write_str(
                "the retention is 0 and was never longer: set one (`lastgood resource set --retention-days`) to let it go",
            ),
            Self::Unconnected => f.write_str(
                "its resource was rebuilt from manifests and has no connection: nothing expires until it has one, or is removed",
            ),
            Self::UnknownTier => {
                f.write_str("its tier is not in the plans: nothing expires; add the tier to the plans")
            }
        }
    }
}

/// Why a restore point expires. The serialized names must never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Expired {
    /// It expired before.
    Already,
    /// It is older than the retention and than every window that it stands for.
    TooOld {
        /// The retention in days.
        days: i32,
    },
    /// It is younger than the retention, but not the newest of any window that counts.
    Thinned,
    /// Its resource was removed and was never promised anything.
    NeverPromised,
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Already => f.write_str("let go before, and waits to be removed"),
            Self::TooOld { days } => write!(f, "older than the promised {days} days"),
            Self::Thinned => f.write_str(
                "thinned out: not the newest of an hour, day, week or month that is kept",
            ),
            Self::NeverPromised => {
                f.write_str("its resource was removed and was never promised anything")
            }
        }
    }
}
