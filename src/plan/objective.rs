//! In how many of the minutes must a tier's promise hold? The objective, in percent.

use std::fmt;

use serde::{Serialize, Serializer};

/// The share of the minutes of 30 days in which the promise must have held: above 0 and below 100 percent, exact to a thousandth of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Objective(u32);

/// Thousandths of a percent in a whole.
const WHOLE: u32 = 100_000;

impl Objective {
    /// Returns the objective of the given percent, if it is one.
    pub fn from_percent(percent: f64) -> Result<Self, ObjectiveError> {
        if percent.is_nan() || percent <= 0.0 {
            return Err(ObjectiveError::TooLow(percent));
        }
        if percent >= 100.0 {
            return Err(ObjectiveError::TooHigh(percent));
        }
        // The shortest decimal that means this number is what the file says.
        let shown = percent.to_string();
        let (whole, decimals) = shown.split_once('.').unwrap_or((&shown, ""));
        if decimals.len() > 3 {
            return Err(ObjectiveError::TooExact(percent));
        }
        format!("{whole}{decimals:0<3}")
            .parse()
            .map(Self)
            .map_err(|_| ObjectiveError::TooExact(percent))
    }

    /// Returns the objective in percent.
    #[must_use]
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// Returns the share of minutes in which the promise may break, from 0 to 1, neither of them.
    #[must_use]
    pub fn allowed_share(self) -> f64 {
        f64::from(WHOLE - self.0) / f64::from(WHOLE)
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.percent())
    }
}

/// As a number of percent.
impl Serialize for Objective {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.percent())
    }
}

/// Why a number of percent is not an objective, and what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ObjectiveError {
    /// 0 or below.
    #[error("{0} promises nothing: use a percentage such as 99.9, or remove it")]
    TooLow(f64),
    /// 100 or above.
    #[error("{0} is too high: nothing holds in every minute; use less than 100, such as 99.9")]
    TooHigh(f64),
    /// More than three decimals.
    #[error("{0} is too exact: use three decimals at most")]
    TooExact(f64),
}
