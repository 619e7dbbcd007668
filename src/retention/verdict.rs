//! What was decided about a restore point, in words that an operator can act on.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::Window;

/// What was decided about one restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The point.
    pub point: Uuid,
    /// What was decided.
    pub decision: Decision,
}

/// Whether a restore point stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It stays.
    Keep(Kept),
    /// It goes.
    Expire(Expired),
}

impl Decision {
    /// Returns whether it stays.
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

/// Why a restore point stays. Serialized names are permanent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Kept {
    /// A legal hold.
    Held,
    /// An operator's pin.
    Pinned,
    /// A restore from it waits or runs.
    InRestore,
    /// It is from the future: a clock was wrong, here or there.
    InFuture,
    /// The newest trusted point of a live resource, or where none is, the newest suspect one.
    Newest,
    /// The newest proven usable point of a live resource.
    NewestProven,
    /// One of the newest so many.
    Minimum {
        /// So many.
        number: u32,
    },
    /// Older than one of less than half the size, which nobody has confirmed.
    BeforeShrunk,
    /// Younger than the retention.
    Within {
        /// The retention.
        days: i32,
        /// When it ends.
        until: DateTime<Utc>,
    },
    /// Younger than a day: not thinned out yet.
    Young {
        /// When it may be.
        until: DateTime<Utc>,
    },
    /// The newest of a window that counts.
    Stands {
        /// The window that counts longest.
        window: Window,
        /// When it counts no more.
        until: DateTime<Utc>,
    },
    /// What was promised before a change still holds for a while.
    Grace {
        /// So long.
        until: DateTime<Utc>,
    },
    /// Retention has seen the resource for the first time lately, or again after a long while: nothing of it expires for a while.
    FirstSeen {
        /// So long.
        until: DateTime<Utc>,
    },
    /// New backups are vetoed; this one is kept as was promised before.
    Former {
        /// So long.
        until: DateTime<Utc>,
    },
    /// Nobody ever said how long to keep it.
    NoPromise,
    /// The plans do not know the tier.
    UnknownTier,
    /// The resource is back from manifests, and has no connection.
    Unconnected,
}

impl Kept {
    /// Returns when the promise that keeps it ends, at the latest; `None` where that is not a matter of time.
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

    /// Whether somebody asked for it, which is told even where a promise keeps it too.
    pub(super) fn is_asked_for(&self) -> bool {
        matches!(self, Self::Held | Self::Pinned)
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("on legal hold"),
            Self::Pinned => f.write_str("pinned"),
            Self::InRestore => f.write_str("a restore from it waits or runs"),
            Self::InFuture => {
                f.write_str("its time is in the future: a clock was wrong, it is kept until that time has passed")
            }
            Self::Newest => f.write_str("the newest usable one of a live resource: never removed"),
            Self::NewestProven => {
                f.write_str("the newest proven one of a live resource: never removed")
            }
            Self::Minimum { number: 1 } => f.write_str("the newest is kept, however old"),
            Self::Minimum { number } => write!(f, "the newest {number} are kept, however old"),
            Self::BeforeShrunk => f.write_str(
                "a newer one has less than half of the bytes: kept until `lastgood backup confirm` says that the newer one is right, or that \
                 one has expired",
            ),
            Self::Within { days, .. } => write!(f, "within the {days} days that are promised"),
            Self::Young { .. } => f.write_str("younger than a day: not thinned out yet"),
            Self::Stands { window, .. } => {
                write!(f, "the newest of its {}", window.as_str())
            }
            Self::Grace { .. } => {
                f.write_str("the tier or the plan changed: what was promised before holds for a while")
            }
            Self::FirstSeen { .. } => f.write_str(
                "retention has seen its resource for the first time lately, or again after a day or more: nothing expires for a \
                 while",
            ),
            Self::Former { .. } => {
                f.write_str("the retention is 0 now: kept as long as was promised before")
            }
            Self::NoPromise => f.write_str(
                "the retention is 0 and was never more: set one (`lastgood resource set --retention-days`) to let it go",
            ),
            Self::Unconnected => f.write_str(
                "its resource was rebuilt from manifests and has no connection: nothing expires until it has one, or is removed",
            ),
            Self::UnknownTier => {
                f.write_str("the plans do not know its tier: nothing expires; add the tier to the plans")
            }
        }
    }
}

/// Why a restore point goes. Serialized names are permanent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Expired {
    /// It has been let go before.
    Already,
    /// Older than the retention, and than every window that it stands for.
    TooOld {
        /// The retention.
        days: i32,
    },
    /// Younger than the retention, and not the newest of any window that counts.
    Thinned,
    /// Of a removed resource that was promised nothing.
    NeverPromised,
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Already => f.write_str("let go before, and waits for its removal"),
            Self::TooOld { days } => write!(f, "older than the {days} days that are promised"),
            Self::Thinned => f.write_str(
                "thinned out: not the newest of an hour, day, week or month that is kept",
            ),
            Self::NeverPromised => {
                f.write_str("its resource was removed, and was promised nothing")
            }
        }
    }
}
