//! How does a series of daily figures grow? The Theil–Sen slope, which a few odd days do not move, and its range.

/// Fewer days than this show no trend.
const FEWEST_DAYS: usize = 7;
/// More days than this are not looked at: the pairs of days grow with their square.
const MOST_DAYS: usize = 60;
/// How many standard deviations cover 95 of 100 cases.
const Z95: f64 = 1.96;
/// No figure shrinks below this share of what it is: a trend does not go on for ever.
const SMALLEST: f64 = 0.1;

/// How a figure grows in a day, as a share of its present level, with the range that covers 95 of 100 cases.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Trend {
    /// The median of the slopes between each two days.
    pub per_day: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Which value of a range is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The lower end.
    Low,
    /// The estimate.
    Middle,
    /// The upper end.
    High,
}

impl Trend {
    /// Returns the trend of daily figures, each with the number of its day; `None` if there are too few days, or the figures are zero.
    #[must_use]
    pub fn of(days: &[(f64, f64)]) -> Option<Self> {
        let days = days.get(days.len().saturating_sub(MOST_DAYS)..)?;
        if days.len() < FEWEST_DAYS {
            return None;
        }
        let mut slopes: Vec<f64> = days
            .iter()
            .enumerate()
            .flat_map(|(index, a)| days.iter().skip(index + 1).map(move |b| (a, b)))
            .filter(|((a, _), (b, _))| b > a)
            .map(|((a, x), (b, y))| (y - x) / (b - a))
            .collect();
        slopes.sort_by(f64::total_cmp);
        let slope = middle(&slopes)?;
        // The level at the last day, by the median of what each day says of it.
        let (last, _) = *days.last()?;
        let mut levels: Vec<f64> = days
            .iter()
            .map(|(day, y)| y + slope * (last - day))
            .collect();
        levels.sort_by(f64::total_cmp);
        let level = middle(&levels).filter(|level| *level > 0.0)?;
        let (low, high) = range(&slopes, days.len())?;
        Some(Self {
            per_day: slope / level,
            low: low / level,
            high: high / level,
        })
    }

    /// Returns by how much the figure has grown after so many days: 1 is not at all.
    #[must_use]
    pub fn factor(self, days: f64, bound: Bound) -> f64 {
        let per_day = match bound {
            Bound::Low => self.low,
            Bound::Middle => self.per_day,
            Bound::High => self.high,
        };
        (1.0 + per_day * days).max(SMALLEST)
    }
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    let upper = sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(*upper);
    }
    let lower = sorted.get(half.checked_sub(1)?)?;
    Some(f64::midpoint(*lower, *upper))
}

/// Returns the slopes between which the true one lies in 95 of 100 cases, by Kendall's count of pairs.
fn range(sorted: &[f64], days: usize) -> Option<(f64, f64)> {
    let n = f64::from(u32::try_from(days).ok()?);
    let pairs = f64::from(u32::try_from(sorted.len()).ok()?);
    let apart = Z95 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let low = rank(f64::midpoint(pairs, -apart), sorted.len());
    let high = rank(f64::midpoint(pairs, apart), sorted.len());
    Some((*sorted.get(low)?, *sorted.get(high)?))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank is between 0 and the number of pairs, which are a few thousand"
)]
fn rank(at: f64, count: usize) -> usize {
    (at.clamp(0.0, 1e6).round() as usize).min(count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn days(of: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..30_u32)
            .map(f64::from)
            .map(|day| (day, of(day)))
            .collect()
    }

    #[test]
    fn a_straight_line_has_its_own_slope_and_no_range() {
        let trend = Trend::of(&days(|day| 100.0 + 2.0 * day)).unwrap();
        // At the last day the level is 158.
        assert!((trend.per_day - 2.0 / 158.0).abs() < 1e-9, "{trend:?}");
        assert!((trend.high - trend.low).abs() < 1e-9, "{trend:?}");
        assert!((trend.factor(79.0, Bound::Middle) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_few_odd_days_do_not_move_it() {
        let mut figures = days(|day| 100.0 + 2.0 * day);
        for index in [3, 11, 20, 28] {
            figures[index].1 = 9000.0;
        }
        let trend = Trend::of(&figures).unwrap();
        assert!((trend.per_day * 158.0 - 2.0).abs() < 0.7, "{trend:?}");
    }

    #[test]
    fn few_days_and_zeros_show_no_trend() {
        assert_eq!(Trend::of(&[]), None);
        assert_eq!(Trend::of(&days(|day| day)[..6]), None);
        assert_eq!(Trend::of(&days(|_| 0.0)), None);
    }

    proptest! {
        #[test]
        fn the_estimate_is_within_its_range(noise in proptest::collection::vec(50.0..150.0_f64, 7..40)) {
            let figures: Vec<_> = (0..40_u32).map(f64::from).zip(noise).collect();
            let trend = Trend::of(&figures).unwrap();
            prop_assert!(trend.low <= trend.per_day && trend.per_day <= trend.high);
            for days in [0.0, 30.0, 90.0] {
                prop_assert!(trend.factor(days, Bound::Low) <= trend.factor(days, Bound::High));
                prop_assert!(trend.factor(days, Bound::Low) >= SMALLEST);
            }
        }
    }
}
