//! What `status` says of restore points that no drill has proven.

use super::{Status, printable};
use crate::rto::Rto;

/// Returns what is not proven, what was found wanting, and which restores take too long.
pub(super) fn told(status: &Status) -> Vec<String> {
    let mut parts = Vec::new();
    for count in &status.unproven {
        let engine = &count.engine;
        if count.wanting > 0 {
            parts.push(format!(
                "NOT RESTORED WHOLE: the last drills of {} resources of {engine} found that something came back otherwise, or could not be \
                 restored: `lastgood proof list --outcome differs`, `--outcome failed`",
                count.wanting
            ));
        }
        if count.overdue > 0 {
            let because = match count.not_possible {
                0 => String::new(),
                some => format!(
                    "; {some} could not be drilled: `lastgood proof list --outcome not_possible`"
                ),
            };
            parts.push(format!(
                "UNPROVEN: no drill has proven {} resources of {engine} within drill_within_days{because}",
                count.overdue
            ));
        }
    }
    let slow = status
        .resources
        .iter()
        .filter(|row| row.rto == Some(Rto::Broken));
    parts.extend(slow.map(|row| {
        format!(
            "RTO BROKEN: the last restore of {} took {:.0} s, longer than its tier promises (rto_minutes)",
            printable(&row.id),
            row.restore_seconds.unwrap_or_default()
        )
    }));
    parts
}
