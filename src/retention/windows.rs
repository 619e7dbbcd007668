//! Calendar windows in UTC, and the restore point that stands for each: the newest trusted one in it.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::Point;
use crate::plan::Keep;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// The length of a window. The serialized names must never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// A clock hour.
    Hour,
    /// A day.
    Day,
    /// An ISO week, from Monday.
    Week,
    /// A month.
    Month,
}

impl Window {
    const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];

    /// Returns the word for this length.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    fn counted(self, keep: Keep) -> u32 {
        match self {
            Self::Hour => keep.hourly,
            Self::Day => keep.daily,
            Self::Week => keep.weekly,
            Self::Month => keep.monthly,
        }
    }

    /// Returns the number of the window that contains an instant. Consecutive windows have consecutive numbers.
    fn index(self, at: DateTime<Utc>) -> i64 {
        let day = at.timestamp().div_euclid(DAY);
        match self {
            Self::Hour => at.timestamp().div_euclid(HOUR),
            Self::Day => day,
            // 1970 began on a Thursday.
            Self::Week => (day + 3).div_euclid(7),
            Self::Month => i64::from(at.year()) * 12 + i64::from(at.month0()),
        }
    }

    /// Returns when the window with this number begins, or the end of time if that is past the calendar.
    fn begin(self, index: i64) -> DateTime<Utc> {
        let begin = match self {
            Self::Hour => DateTime::from_timestamp(index * HOUR, 0),
            Self::Day => DateTime::from_timestamp(index * DAY, 0),
            Self::Week => DateTime::from_timestamp((index * 7 - 3) * DAY, 0),
            Self::Month => {
                let year = i32::try_from(index.div_euclid(12)).ok();
                let month = u32::try_from(index.rem_euclid(12)).ok();
                year.zip(month)
                    .and_then(|(year, month)| NaiveDate::from_ymd_opt(year, month + 1, 1))
                    .and_then(|first| first.and_hms_opt(0, 0, 0))
                    .map(|first| first.and_utc())
            }
        };
        begin.unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

/// Which points stand for the windows of one `keep:`, and until when.
#[derive(Debug, Default)]
pub(super) struct Windows(HashMap<Uuid, Vec<(Window, DateTime<Utc>)>>);

impl Windows {
    /// Returns which of these trusted points stand for which windows.
    pub(super) fn of(newest_first: &[&Point], keep: Option<Keep>) -> Self {
        let mut standing = Self::default();
        let Some(keep) = keep else {
            return standing;
        };
        for window in Window::ALL {
            let counted = i64::from(window.counted(keep));
            if counted == 0 {
                continue;
            }
            // The windows may come in any order: points are ordered by their data's instant, but counted from when they were recorded at
            // the earliest, and the clocks of two workers may differ.
            let mut taken = HashSet::new();
            for point in newest_first {
                let index = window.index(point.counted_from());
                if taken.insert(index) {
                    // As many whole windows as `keep:` says, after the point's own.
                    let until = window.begin(index + counted + 1);
                    standing
                        .0
                        .entry(point.id)
                        .or_default()
                        .push((window, until));
                }
            }
        }
        standing
    }

    pub(super) fn that_stand(&self, id: Uuid) -> impl Iterator<Item = (Window, DateTime<Utc>)> {
        self.0.get(&id).into_iter().flatten().copied()
    }
}
