//! Reopens customers' databases that a restore closed before its worker died, so that none stays closed.

use std::time::Duration;

use lastgood_jobs::{error::chain, resource::Engine, restore::reopen};

use super::{
    Shared,
    handle::{READ_WITHIN, resource},
};
use crate::{
    catalog::{CatalogError, answered},
    nouns::ClosedDatabase,
};

const LOOK_EVERY: Duration = Duration::from_secs(15);
/// The time limit for reopening one database.
const OPENED_WITHIN: Duration = Duration::from_mins(2);

/// Looks for closed databases of the engines that this consumer serves; never returns.
pub(super) async fn reopen_for_ever(shared: Shared, engines: Vec<Engine>) {
    let engines: Vec<_> = engines.iter().map(ToString::to_string).collect();
    let mut timer = tokio::time::interval(LOOK_EVERY);
    loop {
        timer.tick().await;
        let taking = shared.catalog.take_closed_databases(&engines);
        match answered(READ_WITHIN, taking).await {
            Ok(closed) => {
                for database in closed {
                    try_to_open(&shared, &database).await;
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "cannot look for databases that a restore has left closed"
                );
            }
        }
    }
}

async fn try_to_open(shared: &Shared, closed: &ClosedDatabase) {
    let opened = match tokio::time::timeout(OPENED_WITHIN, open(shared, closed)).await {
        Ok(opened) => opened,
        Err(_) => Err(format!(
            "its server did not open it within {} s",
            OPENED_WITHIN.as_secs()
        )),
    };
    let (id, database) = (&closed.resource, &closed.database);
    let recorded = match opened {
        Ok(()) => {
            tracing::warn!(resource.id = id, run.id = %closed.run, %database, "a database that a restore had left closed is open again");
            shared.catalog.strike_out_closed(closed).await
        }
        Err(error) => {
            tracing::error!(resource.id = id, run.id = %closed.run, %database, %error, "a database that a restore has closed cannot be opened yet");
            shared.catalog.note_still_closed(closed, &error).await
        }
    };
    if let Err(error) = recorded {
        tracing::warn!(
            error = chain(&error),
            "cannot record what became of a closed database"
        );
    }
}

async fn open(shared: &Shared, closed: &ClosedDatabase) -> Result<(), String> {
    let reading = async {
        let row = shared.catalog.resource(&closed.resource).await?;
        let connection = shared.catalog.connection(&closed.resource).await?;
        Ok::<_, CatalogError>((row, connection))
    };
    let (row, connection) = answered(READ_WITHIN, reading)
        .await
        .map_err(|error| chain(&error))?;
    let resource = resource(&row, connection, shared)
        .await
        .map_err(|failure| failure.message)?;
    let opening = reopen(&resource, &closed.database, closed.run);
    opening.await.map_err(|error| error.report())
}
