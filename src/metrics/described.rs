//! What every metric is called, and its help. The names are promises.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram, gauge};

use crate::version::VERSION;

pub(super) const RUNS: &str = "lastgood_runs_total";
pub(super) const RUN_SECONDS: &str = "lastgood_run_duration_seconds";
pub(super) const DUMP_BYTES: &str = "lastgood_dump_bytes_total";
pub(super) const STORED_BYTES: &str = "lastgood_stored_bytes_total";
pub(super) const QUEUE_RUNS: &str = "lastgood_queue_runs";
pub(super) const OLDEST_RUNNABLE: &str = "lastgood_queue_oldest_runnable_age_seconds";
pub(super) const SUSPENDED: &str = "lastgood_suspended_resources";
pub(super) const INFEASIBLE: &str = "lastgood_infeasible_promises";
pub(super) const EXPOSURE: &str = "lastgood_exposure_seconds";
pub(super) const PROTECTED: &str = "lastgood_protected_resources";
pub(super) const NEVER_BACKED_UP: &str = "lastgood_never_backed_up_resources";
pub(super) const OLDEST_NEVER: &str = "lastgood_never_backed_up_oldest_age_seconds";
pub(super) const BROKEN: &str = "lastgood_broken_promise_resources";
pub(super) const ATTAINMENT: &str = "lastgood_promise_attainment_ratio";
pub(super) const BUDGET_LEFT: &str = "lastgood_promise_budget_left_ratio";
pub(super) const BURN_RATE: &str = "lastgood_promise_burn_rate";
pub(super) const PROMISED: &str = "lastgood_promised_exposure_seconds";
pub(super) const UNKNOWN_TIER: &str = "lastgood_unknown_tier_resources";
pub(super) const PLANS_FALLBACK: &str = "lastgood_plans_fallback";
pub(super) const PLANS_RELOAD_FAILED: &str = "lastgood_plans_reload_failed";
pub(super) const TICKS: &str = "lastgood_ticks_total";
pub(super) const TICK_SECONDS: &str = "lastgood_tick_duration_seconds";
pub(super) const LAST_TICK: &str = "lastgood_last_tick_timestamp_seconds";
pub(super) const LAST_OBSERVED: &str = "lastgood_last_observed_timestamp_seconds";
pub(super) const ENQUEUED: &str = "lastgood_tick_enqueued_total";
pub(super) const COALESCED: &str = "lastgood_tick_coalesced_total";
pub(super) const LEFT_OUT: &str = "lastgood_rows_left_out_total";
pub(super) const FUTURE_ROWS: &str = "lastgood_future_rows_mended_total";
pub(super) const REAPED: &str = "lastgood_reaped_leases_total";
pub(super) const REAPED_RUNS: &str = "lastgood_reaped_runs_total";
pub(super) const LIVE_CONSUMERS: &str = "lastgood_live_consumers";
pub(super) const CLOCK_SKEW: &str = "lastgood_clock_skew_seconds";
pub(super) const EXPIRED: &str = "lastgood_expired_points_total";
pub(super) const AWAITING_REMOVAL: &str = "lastgood_points_awaiting_removal";
pub(super) const REFUSED_REMOVALS: &str = "lastgood_refused_removals";
pub(super) const SWEPT: &str = "lastgood_janitor_removed_total";
pub(super) const VERIFICATIONS: &str = "lastgood_verifications_total";
pub(super) const QUARANTINED: &str = "lastgood_quarantined_points";
pub(super) const SUSPECT: &str = "lastgood_suspect_points";
pub(super) const SUSPECT_NEWEST: &str = "lastgood_suspect_newest_resources";
pub(super) const OF_NO_INSTANT: &str = "lastgood_no_instant_resources";
pub(super) const OVERDUE: &str = "lastgood_verification_overdue_points";
pub(super) const DRILLS: &str = "lastgood_drills_total";
pub(super) const UNPROVEN_OVERDUE: &str = "lastgood_drill_overdue_resources";
pub(super) const WANTING: &str = "lastgood_drill_wanting_resources";
pub(super) const UNPROVEN: &str = "lastgood_drill_not_possible_resources";
pub(super) const MISSING_COPIES: &str = "lastgood_missing_copies";
pub(super) const CLOSED_DATABASES: &str = "lastgood_closed_databases";
pub(super) const MISSING_POINTS: &str = "lastgood_store_missing_points";
pub(super) const VANISHED: &str = "lastgood_store_vanished";
pub(super) const UNLISTED: &str = "lastgood_store_unlisted";
pub(super) const UNUSABLE: &str = "lastgood_store_unusable_consumers";
pub(super) const PAUSES: &str = "lastgood_queue_pauses";
pub(super) const PRUNED: &str = "lastgood_pruned_runs_total";
pub(super) const API_REQUESTS: &str = "lastgood_api_requests_total";
pub(super) const API_SECONDS: &str = "lastgood_api_request_duration_seconds";
pub(super) const BUILD: &str = "lastgood_build_info";

/// Says what every metric is, and which build this is.
pub(super) fn introduce() {
    describe();
    describe_promise();
    describe_upkeep();
    describe_api();
    gauge!(BUILD, "version" => VERSION).set(1.0);
}

fn describe() {
    describe_counter!(RUNS, "Attempts that ended, by engine, kind and result.");
    describe_histogram!(
        RUN_SECONDS,
        Unit::Seconds,
        "How long attempts took, by engine, kind and result."
    );
    describe_counter!(
        DUMP_BYTES,
        Unit::Bytes,
        "Bytes of dumps in recorded restore points, before compression."
    );
    describe_counter!(
        STORED_BYTES,
        Unit::Bytes,
        "Bytes of archives in recorded restore points."
    );
    describe_gauge!(QUEUE_RUNS, "Runs in the queue now, by engine and state.");
    describe_gauge!(
        OLDEST_RUNNABLE,
        Unit::Seconds,
        "How long the oldest run that can be claimed has been waiting for it, by engine. Leaves out upkeep (copies, verifications, removals), which waits by design, and runs that a pause covers."
    );
    describe_counter!(TICKS, "Producer ticks, by result.");
    describe_histogram!(
        TICK_SECONDS,
        Unit::Seconds,
        "How long a tick's statement took."
    );
    describe_gauge!(
        LAST_TICK,
        Unit::Seconds,
        "When the last tick succeeded, as Unix time; 0 means never."
    );
    describe_gauge!(
        LAST_OBSERVED,
        Unit::Seconds,
        "When this producer last measured everything that its gauges show, as Unix time; 0 means never. While this value stands still, so do the gauges."
    );
    describe_counter!(ENQUEUED, "Backups enqueued by ticks.");
    describe_counter!(
        COALESCED,
        "Waiting backups that ticks moved to a newer slot."
    );
    describe_counter!(
        LEFT_OUT,
        "Rows that a statement over many rows left out because the catalog refused them, by statement; they hold up no others. The producer's log names them."
    );
    describe_counter!(
        FUTURE_ROWS,
        "Rows dated further in the future than clocks can differ, which the producer corrected, by table: the catalog's clock was ahead."
    );
    describe_counter!(
        REAPED,
        "Leases taken back from lost workers, by engine and the run's new state."
    );
    describe_counter!(
        REAPED_RUNS,
        "Runs that the producer took back from lost workers, or failed because no build knows their engine (`unknown`), by engine, kind and the run's new state. Consumers do not count the runs that fail here."
    );
    describe_gauge!(
        LIVE_CONSUMERS,
        "Consumers seen in the last 30 seconds that take new runs (one that drains does not), by engine."
    );
    describe_gauge!(
        CLOCK_SKEW,
        Unit::Seconds,
        "This process's clock minus the catalog's."
    );
    describe_counter!(
        SWEPT,
        "Objects of dead attempts that the janitor removed, by what they were."
    );
    describe_gauge!(BUILD, "Always 1; the version is the label.");
}

/// What is promised and whether it is kept.
fn describe_promise() {
    describe_gauge!(
        EXPOSURE,
        Unit::Seconds,
        "What a failure now would lose: quantiles over a tier's resources; quantile 1 is the worst. A resource that was never backed up counts from its registration."
    );
    describe_gauge!(
        PROTECTED,
        "Active resources that the plans say are backed up, by tier."
    );
    describe_gauge!(
        NEVER_BACKED_UP,
        "Protected resources that have no restore point, by tier."
    );
    describe_gauge!(
        OLDEST_NEVER,
        Unit::Seconds,
        "How long ago the oldest protected resource without a restore point was registered, by tier; 0 if there is none."
    );
    describe_gauge!(
        PROMISED,
        Unit::Seconds,
        "The exposure above which a tier's promise is late (the RPO), and broken (the RPO and its tolerance)."
    );
    describe_gauge!(
        BROKEN,
        "Protected resources with an exposure above the RPO and its tolerance, by tier."
    );
    describe_gauge!(
        ATTAINMENT,
        "The share of the time promised in the last 30 days, all resources together, in which the promise was not broken, by tier; absent while nothing is counted."
    );
    describe_gauge!(
        BUDGET_LEFT,
        "The share of the error budget of 30 days that is left, by tier; below 0 if more is spent. Only for tiers with an objective."
    );
    describe_gauge!(
        BURN_RATE,
        "How many times as fast as the objective allows the error budget was spent in the last hour, or the last six, by tier and window: 1 spends it exactly in 30 days. Only for tiers with an objective."
    );
    describe_gauge!(
        SUSPENDED,
        "Resources that are not protected although their tier is: paused (as all are after `catalog rebuild`), or vetoed by their own retention of zero; by tier."
    );
    describe_gauge!(
        INFEASIBLE,
        "Protected resources whose RPO is held strictly and that no cadence keeps, because their backups take too long; by tier."
    );
    describe_gauge!(
        UNKNOWN_TIER,
        "Active resources on tiers that are not in plans.yaml: they are not backed up."
    );
    describe_gauge!(
        PLANS_FALLBACK,
        "1 while the built-in plans are in force because plans.yaml is missing or broken."
    );
    describe_gauge!(
        PLANS_RELOAD_FAILED,
        "1 while plans.yaml, changed or removed since the last good read, cannot be used: the last good plans stay in force until a restart falls back to the built-in ones."
    );
}

/// What the HTTP API was asked.
fn describe_api() {
    describe_counter!(
        API_REQUESTS,
        "Requests to the HTTP API, by method, route and result: `done` (2xx and 3xx), `refused` (4xx), `failed` (5xx)."
    );
    describe_histogram!(
        API_SECONDS,
        Unit::Seconds,
        "How long requests to the HTTP API took, by route; for a stream of events, until it began."
    );
}

/// What happens to restore points after they were made.
fn describe_upkeep() {
    describe_gauge!(
        CLOSED_DATABASES,
        "Customers' databases that a restore has left closed to connections."
    );
    describe_gauge!(
        PAUSES,
        "Pauses in force: nothing that they cover is claimed."
    );
    describe_counter!(PRUNED, "Runs whose history was removed because of its age.");
    describe_counter!(
        VERIFICATIONS,
        "Restore points that a verification or a restore read to the last byte, by engine and result."
    );
    describe_gauge!(
        QUARANTINED,
        "Restore points that were found damaged and are still there, by engine."
    );
    describe_gauge!(
        SUSPECT,
        "Suspect restore points, which count towards no promise and need somebody to look at them; by engine."
    );
    describe_gauge!(
        SUSPECT_NEWEST,
        "Resources whose newest restore point is suspect, so that their exposure grows as if that point had not been made; by engine."
    );
    describe_gauge!(
        OF_NO_INSTANT,
        "Resources whose newest trusted restore point is not of a single instant (`consistency: none`); by engine."
    );
    describe_gauge!(
        OVERDUE,
        "Usable restore points that were not verified within --verify-within, by engine."
    );
    describe_counter!(
        DRILLS,
        "Drills that have ended, by engine and outcome: proven, differs, failed, or not_possible (nothing is known)."
    );
    describe_gauge!(
        UNPROVEN_OVERDUE,
        "Resources of which no drill has proven a restore point within their tier's drill_within_days, by engine."
    );
    describe_gauge!(
        WANTING,
        "Resources whose last drill found that something came back otherwise than it was dumped, or could not restore it; by engine."
    );
    describe_gauge!(
        UNPROVEN,
        "Resources that no consumer could drill the last time: nothing is known of them; by engine."
    );
    describe_counter!(EXPIRED, "Restore points that retention let go.");
    describe_gauge!(
        AWAITING_REMOVAL,
        "Restore points that were let go and are still in a store."
    );
    describe_gauge!(
        REFUSED_REMOVALS,
        "Restore points that were let go and that a store refuses to remove, because of an object lock, for example."
    );
    describe_gauge!(
        MISSING_COPIES,
        "Usable restore points that a store does not hold, by store."
    );
    describe_gauge!(
        MISSING_POINTS,
        "Restore points on record in a store whose manifest or archive was missing when the store was last listed, by store; leaves out those that an operator has accepted as lost."
    );
    describe_gauge!(
        VANISHED,
        "1 while more restore points are missing from a store than single losses explain, by store: nothing expires meanwhile."
    );
    describe_gauge!(
        UNUSABLE,
        "Running consumers that cannot use a store, by store: it is gone, exchanged for another, or out of reach; `lastgood status` says why."
    );
    describe_gauge!(
        UNLISTED,
        "1 while a store cannot be listed, by store: lastgood cannot tell whether its restore points are still there."
    );
}
