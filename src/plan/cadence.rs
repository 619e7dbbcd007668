//! How often must a tier be backed up? The RPO, and the cadence derived from it.

use std::fmt;

use chrono::TimeDelta;
use serde::Serialize;

/// The most data that may be lost, in whole minutes; 0 promises nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Rpo(i32);

impl Rpo {
    /// The shortest RPO that a dump can keep, in minutes.
    pub const SHORTEST_MINUTES: i64 = 5;
    /// The longest RPO that is accepted as intended, in minutes: a year.
    pub const LONGEST_MINUTES: i64 = 525_600;

    /// Returns the RPO of the given minutes, if a dump can keep it.
    pub fn from_minutes(minutes: i64) -> Result<Self, RpoError> {
        match minutes {
            ..0 => Err(RpoError::Negative(minutes)),
            1..Self::SHORTEST_MINUTES => Err(RpoError::TooShort(minutes)),
            0..=Self::LONGEST_MINUTES => i32::try_from(minutes)
                .map(Self)
                .map_err(|_| RpoError::TooLong(minutes)),
            _ => Err(RpoError::TooLong(minutes)),
        }
    }

    /// Returns the RPO in minutes.
    #[must_use]
    pub fn minutes(self) -> i32 {
        self.0
    }

    /// Returns the RPO as a span of time.
    #[must_use]
    pub fn as_delta(self) -> TimeDelta {
        TimeDelta::minutes(self.0.into())
    }
}

/// Why a number of minutes is not an RPO, and what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RpoError {
    /// Below zero.
    #[error("{0} is negative: use 5 or more, or 0 for never")]
    Negative(i64),
    /// From 1 to 4.
    #[error(
        "{0} is too short: a dump cannot keep an RPO under 5 minutes; use 5 or more, or 0 for never"
    )]
    TooShort(i64),
    /// Over a year.
    #[error("{0} is too long: use 525600 (a year) at most, or 0 for never")]
    TooLong(i64),
}

/// How often a tier is backed up: one of a closed set, each of which divides the UTC day into equal slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Cadence(i32);

impl Cadence {
    /// Every cadence, shortest first.
    pub const ALL: [Self; 13] = [
        Self(5),
        Self(10),
        Self(15),
        Self(20),
        Self(30),
        Self(60),
        Self(120),
        Self(180),
        Self(240),
        Self(360),
        Self(480),
        Self(720),
        Self(1440),
    ];

    /// Every cadence that `hold: strict` chooses from, shortest first: [`Cadence::ALL`] and four more below the hour.
    ///
    /// The slots of those four do not divide the day: they are counted from the same origin, and begin at another time each day.
    pub const HELD: [Self; 17] = [
        Self(5),
        Self(10),
        Self(15),
        Self(20),
        Self(30),
        Self(40),
        Self(45),
        Self(50),
        Self(55),
        Self(60),
        Self(120),
        Self(180),
        Self(240),
        Self(360),
        Self(480),
        Self(720),
        Self(1440),
    ];

    /// Returns the longest cadence that does not exceed the RPO, or `None` if the RPO is 0.
    #[must_use]
    pub fn for_rpo(rpo: Rpo) -> Option<Self> {
        Self::ALL
            .into_iter()
            .rev()
            .find(|cadence| cadence.0 <= rpo.0)
    }

    /// Returns the cadence of the given minutes, if its slots divide the day evenly.
    pub fn from_minutes(minutes: i64) -> Result<Self, CadenceError> {
        let at_most = |cadence: &Self| i64::from(cadence.0) <= minutes;
        let below = Self::ALL.into_iter().rev().find(at_most);
        let above = Self::ALL.into_iter().find(|cadence| !at_most(cadence));
        match (below, above) {
            (Some(below), _) if i64::from(below.0) == minutes => Ok(below),
            (Some(below), Some(above)) => Err(CadenceError::Uneven {
                minutes,
                below: below.0,
                above: above.0,
            }),
            (None, _) => Err(CadenceError::TooShort(minutes)),
            (Some(_), None) => Err(CadenceError::TooLong(minutes)),
        }
    }

    /// Returns the cadence of [`Cadence::HELD`] that lasts the given minutes, as the catalog stores it.
    #[must_use]
    pub fn held(minutes: i32) -> Option<Self> {
        Self::HELD.into_iter().find(|cadence| cadence.0 == minutes)
    }

    /// Returns the cadence in minutes.
    #[must_use]
    pub fn minutes(self) -> i32 {
        self.0
    }

    /// Returns the cadence as a span of time, the length of its slots.
    #[must_use]
    pub fn as_delta(self) -> TimeDelta {
        TimeDelta::minutes(self.0.into())
    }
}

/// Writes the cadence in words: `hourly`, `every 15 minutes`, `once a day`.
impl fmt::Display for Cadence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            60 => f.write_str("hourly"),
            1440 => f.write_str("once a day"),
            minutes if minutes % 60 == 0 => write!(f, "every {} hours", minutes / 60),
            minutes => write!(f, "every {minutes} minutes"),
        }
    }
}

/// Why a number of minutes is not a cadence, and what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CadenceError {
    /// Less than five minutes.
    #[error("{0} is too short: use 5 or more")]
    TooShort(i64),
    /// More than a day.
    #[error("{0} is too long: use 1440 (once a day) at most")]
    TooLong(i64),
    /// Between two cadences.
    #[error("{minutes} does not divide the day into equal slots: use {below} or {above}")]
    Uneven {
        /// The minutes that were given.
        minutes: i64,
        /// The next shorter cadence, in minutes.
        below: i32,
        /// The next longer cadence, in minutes.
        above: i32,
    },
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::shortest(5, 5, "every 5 minutes")]
    #[case::between_five_and_ten(9, 5, "every 5 minutes")]
    #[case::ten(10, 10, "every 10 minutes")]
    #[case::fifteen(15, 15, "every 15 minutes")]
    #[case::twenty(29, 20, "every 20 minutes")]
    #[case::half_hour(59, 30, "every 30 minutes")]
    #[case::hourly(60, 60, "hourly")]
    #[case::just_over_an_hour(61, 60, "hourly")]
    #[case::just_under_two_hours(119, 60, "hourly")]
    #[case::two_hours(120, 120, "every 2 hours")]
    #[case::five_hours(300, 240, "every 4 hours")]
    #[case::just_under_a_day(1439, 720, "every 12 hours")]
    #[case::once_a_day(1440, 1440, "once a day")]
    #[case::a_week(10_080, 1440, "once a day")]
    fn an_rpo_has_the_cadence_of_the_table(
        #[case] rpo: i64,
        #[case] cadence: i32,
        #[case] words: &str,
    ) -> anyhow::Result<()> {
        let derived = Cadence::for_rpo(Rpo::from_minutes(rpo)?);
        assert_eq!(derived.map(Cadence::minutes), Some(cadence));
        assert_eq!(
            derived.map(|cadence| cadence.to_string()).as_deref(),
            Some(words)
        );
        Ok(())
    }

    #[test]
    fn every_rpo_has_the_longest_cadence_that_keeps_it() -> anyhow::Result<()> {
        for minutes in 5..=20_000 {
            let rpo = Rpo::from_minutes(minutes)?;
            let derived = Cadence::for_rpo(rpo).ok_or_else(|| anyhow::anyhow!("{minutes}"))?;
            assert!(derived.as_delta() <= rpo.as_delta(), "{minutes}");
            let longer = Cadence::ALL.into_iter().filter(|other| *other > derived);
            assert!(
                longer
                    .into_iter()
                    .all(|other| other.as_delta() > rpo.as_delta()),
                "{minutes}"
            );
        }
        Ok(())
    }

    #[test]
    fn every_cadence_divides_the_day_and_is_ascending() {
        assert!(Cadence::ALL.iter().all(|cadence| 1440 % cadence.0 == 0));
        assert!(Cadence::ALL.is_sorted());
    }

    #[test]
    fn a_strict_hold_chooses_from_every_cadence_and_four_more() {
        assert!(Cadence::HELD.is_sorted());
        let more: Vec<_> = Cadence::HELD
            .into_iter()
            .filter(|cadence| !Cadence::ALL.contains(cadence))
            .map(Cadence::minutes)
            .collect();
        assert_eq!(more, [40, 45, 50, 55]);
        let all = Cadence::ALL.into_iter();
        assert!(all.into_iter().all(|it| Cadence::HELD.contains(&it)));
    }

    #[rstest]
    #[case::negative(-1, RpoError::Negative(-1))]
    #[case::very_negative(i64::MIN, RpoError::Negative(i64::MIN))]
    #[case::one(1, RpoError::TooShort(1))]
    #[case::four(4, RpoError::TooShort(4))]
    #[case::over_a_year(525_601, RpoError::TooLong(525_601))]
    #[case::huge(i64::MAX, RpoError::TooLong(i64::MAX))]
    fn an_rpo_that_cannot_be_kept_is_refused(#[case] minutes: i64, #[case] why: RpoError) {
        assert_eq!(Rpo::from_minutes(minutes), Err(why));
    }

    #[test]
    fn an_rpo_of_zero_has_no_cadence() -> anyhow::Result<()> {
        assert_eq!(Cadence::for_rpo(Rpo::from_minutes(0)?), None);
        Ok(())
    }

    #[rstest]
    #[case::zero(0, "0 is too short: use 5 or more")]
    #[case::negative(-60, "-60 is too short: use 5 or more")]
    #[case::four(4, "4 is too short: use 5 or more")]
    #[case::seven(7, "7 does not divide the day into equal slots: use 5 or 10")]
    #[case::ninety(90, "90 does not divide the day into equal slots: use 60 or 120")]
    #[case::two_days(2880, "2880 is too long: use 1440 (once a day) at most")]
    fn an_uneven_cadence_is_refused_with_its_neighbours(#[case] minutes: i64, #[case] text: &str) {
        assert_eq!(
            Cadence::from_minutes(minutes).map_err(|why| why.to_string()),
            Err(text.to_owned())
        );
    }

    #[test]
    fn every_cadence_can_be_written() {
        for cadence in Cadence::ALL {
            assert_eq!(Cadence::from_minutes(cadence.0.into()), Ok(cadence));
        }
    }
}
