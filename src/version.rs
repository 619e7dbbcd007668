//! Which build is this?

/// The version and, in brackets, the commit, as shown by `--version`, a consumer's registration and
/// `lastgood_build_info`.
///
/// A development build does not know its commit: `0.1.0 (unknown)`.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("LASTGOOD_BUILD_COMMIT"),
    ")"
);
