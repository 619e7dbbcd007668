//! MongoDB: dumped and restored by this process itself, over the network.

pub(crate) mod dump;
mod meaning;
mod oplog;
#[cfg(test)]
mod pretend;
pub(crate) mod restore;
pub(crate) mod session;
mod watch;
mod wire;

/// The driver, in the version of `Cargo.lock`.
const DRIVER: &str = "mongodb driver 3.9.1";

/// The prefix of the collections that a restore creates for itself. They are never a customer's. Permanent.
const OURS: &str = "lastgood_restore.";

/// Returns the protocols and formats that this build speaks.
pub(crate) fn protocols() -> Vec<String> {
    vec![
        format!("MongoDB wire protocol ({DRIVER})"),
        dump::FORMAT.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_the_one_that_is_linked() {
        let (_, version) = DRIVER.rsplit_once(' ').unwrap();
        let locked = include_str!("../../../Cargo.lock");
        let linked = format!("name = \"mongodb\"\nversion = \"{version}\"");
        assert!(locked.contains(&linked), "Cargo.lock has another driver");
    }
}
