//! Which of a tier's restore points are kept? Those that `keep:` selects, by calendar windows.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many windows of each length keep their newest restore point, besides the current window.
///
/// Windows follow the calendar in UTC: clock hours, days, ISO weeks, months. A count of 0 is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Clock hours.
    #[serde(default, skip_serializing_if = "is_none")]
    pub hourly: u32,
    /// Days.
    #[serde(default, skip_serializing_if = "is_none")]
    pub daily: u32,
    /// ISO weeks, which begin on Monday.
    #[serde(default, skip_serializing_if = "is_none")]
    pub weekly: u32,
    /// Calendar months.
    #[serde(default, skip_serializing_if = "is_none")]
    pub monthly: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_none(windows: &u32) -> bool {
    *windows == 0
}

impl Keep {
    /// Returns how many whole days back the windows reach at least.
    #[must_use]
    pub fn reach_days(self) -> u32 {
        // A month has at least 28 days.
        let spans = [
            self.hourly / 24,
            self.daily,
            self.weekly.saturating_mul(7),
            self.monthly.saturating_mul(28),
        ];
        spans.into_iter().max().unwrap_or(0)
    }

    /// Returns the windows with a count above 0, with their names in the file.
    fn counted(self) -> impl Iterator<Item = (&'static str, u32)> {
        [
            ("hourly", self.hourly),
            ("daily", self.daily),
            ("weekly", self.weekly),
            ("monthly", self.monthly),
        ]
        .into_iter()
        .filter(|(_, windows)| *windows > 0)
    }
}

/// Writes the windows with a count above 0: `24 hourly, 7 daily`.
impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, windows)) in self.counted().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{windows} {name}")?;
        }
        Ok(())
    }
}
