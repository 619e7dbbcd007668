//! What the gauges say of the promises that were kept, and of what is left of the error budgets.

use metrics::gauge;

use super::described::{ATTAINMENT, BUDGET_LEFT, BURN_RATE};
use crate::attained::Burn;

/// Shows how each tier's error budget does. A tier of `before` that has no objective now is shown with its budget unspent.
pub fn burns(before: &[String], burns: &[Burn]) {
    let show = |tier: &str, left: f64, rate_1h: f64, rate_6h: f64| {
        gauge!(BUDGET_LEFT, "tier" => tier.to_owned()).set(left);
        for (window, rate) in [("1h", rate_1h), ("6h", rate_6h)] {
            gauge!(BURN_RATE, "tier" => tier.to_owned(), "window" => window).set(rate);
        }
    };
    for tier in before {
        show(tier, 1.0, 0.0, 0.0);
    }
    for burn in burns {
        if let Some(attained) = burn.attained {
            gauge!(ATTAINMENT, "tier" => burn.tier.clone()).set(attained);
        }
        if let (Some(rate_1h), Some(rate_6h)) = (burn.rate_1h, burn.rate_6h) {
            show(
                &burn.tier,
                burn.budget_left.unwrap_or(1.0),
                rate_1h,
                rate_6h,
            );
        }
    }
}
