//! Which day, or month, is meant? Calendar spans in UTC.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Datelike as _, Days, Months, NaiveDate, NaiveTime, Utc};

use super::Span;

/// A day in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub NaiveDate);

impl Day {
    /// Returns the day that an instant is in.
    #[must_use]
    pub fn of(at: DateTime<Utc>) -> Self {
        Self(at.date_naive())
    }

    /// Returns the day this many days earlier, or the first one that there is.
    #[must_use]
    pub fn back(self, days: u64) -> Self {
        let earlier = self.0.checked_sub_days(Days::new(days));
        Self(earlier.unwrap_or(NaiveDate::MIN))
    }

    /// Returns the day after it, or the last one that there is.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.succ_opt().unwrap_or(NaiveDate::MAX))
    }

    /// Returns its first instant.
    #[must_use]
    pub fn begin(self) -> DateTime<Utc> {
        self.0.and_time(NaiveTime::MIN).and_utc()
    }

    /// Returns the whole of it.
    #[must_use]
    pub fn span(self) -> Span {
        Span {
            from: self.begin(),
            until: self.next().begin(),
        }
    }
}

/// A calendar month in UTC, written `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(NaiveDate);

/// Why a text is not a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a month: give a year and a month, e.g. 2026-11")]
pub struct MonthError;

impl Month {
    /// Returns its first day.
    #[must_use]
    pub fn first(self) -> Day {
        Day(self.0)
    }

    /// Returns its last day.
    #[must_use]
    pub fn last(self) -> Day {
        let next = self.0.checked_add_months(Months::new(1));
        Day(next.unwrap_or(NaiveDate::MAX)).back(1)
    }
}

impl FromStr for Month {
    type Err = MonthError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (year, month) = text.split_once('-').ok_or(MonthError)?;
        let is_number = |part: &str, digits| {
            part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(year, 4) || !is_number(month, 2) {
            return Err(MonthError);
        }
        let (year, month) = (year.parse(), month.parse());
        year.ok()
            .zip(month.ok())
            .and_then(|(year, month)| NaiveDate::from_ymd_opt(year, month, 1))
            .map(Self)
            .ok_or(MonthError)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}
