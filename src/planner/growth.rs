//! By how much will durations and sizes grow? By each resource's own trend, or by a rate that somebody gives: `10%/month`.

use std::{fmt, str::FromStr};

use super::trend::{Bound, Trend};

/// A rate of growth, compound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    percent: f64,
    per: Per,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Per {
    Day,
    Week,
    Month,
    Year,
}

impl Per {
    const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Year];

    fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    fn days(self) -> f64 {
        match self {
            Self::Day => 1.0,
            Self::Week => 7.0,
            Self::Month => 30.0,
            Self::Year => 365.0,
        }
    }
}

/// Why a text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Not of the form.
    #[error(
        "{0:?} is not a rate of growth: give a percentage and a time, such as 10%/month or -2.5%/week"
    )]
    Form(String),
    /// A time that is not known.
    #[error("{0:?} is not a time: use day, week, month or year, as in 10%/month")]
    Time(String),
    /// Beyond what makes sense.
    #[error("{0}% is out of range: use more than -100 and at most 1000")]
    Range(String),
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let form = || RateError::Form(text.to_owned());
        let (percent, per) = text.split_once("%/").ok_or_else(form)?;
        let number: f64 = percent.trim().parse().map_err(|_| form())?;
        let per = Per::ALL
            .into_iter()
            .find(|it| it.as_str() == per.trim())
            .ok_or_else(|| RateError::Time(per.trim().to_owned()))?;
        if !(number > -100.0 && number <= 1000.0) {
            return Err(RateError::Range(percent.trim().to_owned()));
        }
        Ok(Self {
            percent: number,
            per,
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%/{}", self.percent, self.per.as_str())
    }
}

impl Rate {
    fn factor(self, days: f64) -> f64 {
        (1.0 + self.percent / 100.0).powf(days / self.per.days())
    }
}

/// How durations and sizes grow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Growth {
    /// Each resource's by its own trend.
    Own,
    /// All of them by this rate.
    Given(Rate),
}

impl Growth {
    /// Returns by how much a figure with this trend has grown after so many days.
    #[must_use]
    pub fn factor(self, trend: Option<Trend>, days: f64, bound: Bound) -> f64 {
        match (self, trend) {
            (Self::Own, Some(trend)) => trend.factor(days, bound),
            (Self::Own, None) => 1.0,
            (Self::Given(rate), _) => rate.factor(days),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::a_month("10%/month", 30.0, 1.1)]
    #[case::compound("10%/month", 60.0, 1.21)]
    #[case::half_of_it("44%/month", 15.0, 1.2)]
    #[case::shrinking("-50%/week", 7.0, 0.5)]
    #[case::with_spaces(" 100 %/year", 365.0, 2.0)]
    #[case::nothing("0%/day", 90.0, 1.0)]
    fn a_rate_compounds(#[case] text: &str, #[case] days: f64, #[case] factor: f64) {
        let rate: Rate = text.replace(" %", "%").parse().unwrap();
        assert!((rate.factor(days) - factor).abs() < 1e-9, "{rate}");
    }

    #[rstest]
    #[case::no_unit(
        "10",
        "\"10\" is not a rate of growth: give a percentage and a time, such as 10%/month or -2.5%/week"
    )]
    #[case::no_percent(
        "10/month",
        "\"10/month\" is not a rate of growth: give a percentage and a time, such as 10%/month or -2.5%/week"
    )]
    #[case::a_word(
        "ten%/month",
        "\"ten%/month\" is not a rate of growth: give a percentage and a time, such as 10%/month or -2.5%/week"
    )]
    #[case::a_time_that_is_none(
        "10%/quarter",
        "\"quarter\" is not a time: use day, week, month or year, as in 10%/month"
    )]
    #[case::not_a_number(
        "NaN%/month",
        "NaN% is out of range: use more than -100 and at most 1000"
    )]
    #[case::all_of_it(
        "-100%/month",
        "-100% is out of range: use more than -100 and at most 1000"
    )]
    #[case::too_much(
        "1001%/day",
        "1001% is out of range: use more than -100 and at most 1000"
    )]
    fn what_is_no_rate_is_refused_with_an_example(#[case] text: &str, #[case] error: &str) {
        assert_eq!(
            text.parse::<Rate>().map_err(|why| why.to_string()),
            Err(error.to_owned())
        );
    }
}
