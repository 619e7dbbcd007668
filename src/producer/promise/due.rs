//! Which day is to be counted next, and up to when? Each day for good once it has ended, and so far while it lasts.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{catalog::DayPass, promise::Day};

/// How long after its end a day is counted for good: what was under way then is on record by now.
const SETTLES: TimeDelta = TimeDelta::minutes(10);
/// How often the day that lasts is counted so far.
const SO_FAR_EVERY: TimeDelta = TimeDelta::hours(1);

/// A day that is to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) day: Day,
    /// Up to when.
    pub(super) until: DateTime<Utc>,
    /// Whether it has ended, so that it is counted for good.
    pub(super) is_final: bool,
}

/// Returns the day to begin with, if one is due. `newest`: the newest day that was begun; `since`: from when on promises are on record.
pub(super) fn due(
    newest: Option<&DayPass>,
    since: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<Begin> {
    let Some(newest) = newest else {
        return begin(Day::of(since?), now);
    };
    let day = Day(newest.day);
    newest.ended_at?;
    if newest.is_final {
        return begin(day.next(), now);
    }
    let begin = begin(day, now)?;
    let is_old = now - newest.until >= SO_FAR_EVERY;
    (begin.is_final || is_old).then_some(begin)
}

fn begin(day: Day, now: DateTime<Utc>) -> Option<Begin> {
    let span = day.span();
    if now >= span.until + SETTLES {
        return Some(Begin {
            day,
            until: span.until,
            is_final: true,
        });
    }
    (span.from < now && now < span.until).then_some(Begin {
        day,
        until: now,
        is_final: false,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn at(day: i64, minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + day) + TimeDelta::minutes(minutes)
    }

    fn pass(day: i64, until_minutes: i64, is_final: bool, has_ended: bool) -> DayPass {
        DayPass {
            day: at(day, 0).date_naive(),
            until: at(day, until_minutes),
            after: String::new(),
            is_final,
            ended_at: has_ended.then(|| at(day, until_minutes)),
        }
    }

    #[rstest]
    #[case::the_first_day_begins_with_the_promise(None, at(0, 30), at(0, 600), Some((0, 600, false)))]
    #[case::the_first_day_may_have_ended(None, at(0, 30), at(3, 0), Some((0, 1440, true)))]
    #[case::what_was_begun_is_ended_first(
        Some(pass(0, 600, false, false)),
        at(0, 0),
        at(5, 0),
        None
    )]
    #[case::today_is_counted_each_hour(Some(pass(0, 600, false, true)), at(0, 0), at(0, 660), Some((0, 660, false)))]
    #[case::and_no_more_often(Some(pass(0, 600, false, true)), at(0, 0), at(0, 659), None)]
    #[case::an_ended_day_settles(Some(pass(0, 600, false, true)), at(0, 0), at(1, 9), None)]
    #[case::then_it_is_counted_for_good(Some(pass(0, 600, false, true)), at(0, 0), at(1, 10), Some((0, 1440, true)))]
    #[case::then_the_next_day_is(Some(pass(0, 1440, true, true)), at(0, 0), at(1, 10), Some((1, 10, false)))]
    #[case::days_that_were_missed_are_made_up_for(Some(pass(0, 1440, true, true)), at(0, 0), at(9, 0), Some((1, 1440, true)))]
    #[case::a_clock_that_went_back_counts_nothing(
        Some(pass(3, 1440, true, true)),
        at(0, 0),
        at(2, 0),
        None
    )]
    fn each_day_is_counted_so_far_and_then_for_good(
        #[case] newest: Option<DayPass>,
        #[case] since: DateTime<Utc>,
        #[case] now: DateTime<Utc>,
        #[case] expected: Option<(i64, i64, bool)>,
    ) {
        let expected = expected.map(|(day, minutes, is_final)| Begin {
            day: Day::of(at(day, 0)),
            until: at(day, minutes),
            is_final,
        });
        assert_eq!(due(newest.as_ref(), Some(since), now), expected);
    }

    #[test]
    fn nothing_is_counted_before_anything_is_promised() {
        assert_eq!(due(None, None, at(0, 0)), None);
    }
}
