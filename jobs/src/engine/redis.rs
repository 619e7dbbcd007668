//! Redis and Valkey: dumped and restored by this process itself, over the network.

pub(crate) mod connection;
pub(crate) mod dump;
pub(crate) mod info;
mod mark;
pub(crate) mod reply;
pub(crate) mod restore;
mod tls;

/// Returns the protocols and formats that this build speaks.
pub(crate) fn protocols() -> Vec<String> {
    vec![
        "native: RESP2, replication, SCAN and DUMP, RESTORE".to_owned(),
        "RDB 1 to 13 (Redis) and 80 (Valkey 9)".to_owned(),
    ]
}
