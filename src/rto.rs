//! Is a restore as fast as its tier promises? Judged by the last one that was measured. Pure.

use std::num::NonZeroU32;

use crate::closed_set::closed_set;

closed_set!(
    /// How the time of a resource's last measured restore compares with its tier's promise.
    Rto, "judgement of an RTO" {
        /// It was within the promise.
        Kept,
        /// It took longer.
        Broken,
        /// No drill and no restore has measured it.
        Unmeasured,
    }
);

/// Returns how the last measured restore compares with a promise of so many minutes; `None` if nothing is promised.
#[must_use]
pub fn rto(promised_minutes: Option<NonZeroU32>, measured_seconds: Option<f64>) -> Option<Rto> {
    let promised = f64::from(promised_minutes?.get()) * 60.0;
    Some(match measured_seconds {
        None => Rto::Unmeasured,
        Some(seconds) if seconds <= promised => Rto::Kept,
        Some(_) => Rto::Broken,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing_promised(0, Some(1.0), None)]
    #[case::never_measured(1, None, Some(Rto::Unmeasured))]
    #[case::to_the_second(1, Some(60.0), Some(Rto::Kept))]
    #[case::longer(1, Some(60.5), Some(Rto::Broken))]
    fn the_last_measured_restore_is_judged(
        #[case] minutes: u32,
        #[case] seconds: Option<f64>,
        #[case] expected: Option<Rto>,
    ) {
        assert_eq!(rto(NonZeroU32::new(minutes), seconds), expected);
    }
}
