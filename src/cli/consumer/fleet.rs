//! `lastgood consumer list|drain`: which consumers are alive and what they run, and draining one.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::{
    catalog::Order,
    cli::{
        output::{Output, instant, span, table},
        queue,
    },
    nouns::{Consumer, RunningRun},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the consumers that are alive, and what each runs now
    List,
    /// Ask a consumer to drain and end, as SIGTERM does
    Drain {
        /// Its id, as `consumer list` shows it
        id: String,
        /// Why, for the audit log
        #[arg(long)]
        reason: Option<String>,
    },
}

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    consumer: Consumer,
    running: Vec<RunningRun>,
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    let catalog = crate::cli::catalog().await?;
    match command {
        Command::List => {
            let consumers = catalog.live_consumers().await?;
            let running = catalog.running().await?;
            let now = catalog.now().await?;
            let listed: Vec<_> = consumers
                .into_iter()
                .map(|consumer| Listed {
                    running: running
                        .iter()
                        .filter(|run| run.consumer == consumer.id)
                        .cloned()
                        .collect(),
                    consumer,
                })
                .collect();
            output.show(&listed, |listed| list(listed, now))
        }
        Command::Drain { id, reason } => {
            let order = Order::of_this_user(reason.as_deref());
            let asked = catalog.drain_consumer(&id, &order).await?;
            output.show(&asked, |_| {
                format!(
                    "{id} was asked to drain: it claims no more runs, and exits when its last one has ended"
                )
            })
        }
    }
}

fn list(listed: &[Listed], now: DateTime<Utc>) -> String {
    if listed.is_empty() {
        return "NO LIVE CONSUMER: nothing is executed".to_owned();
    }
    let consumers = table(
        [
            "consumer",
            "state",
            "version",
            "engines",
            "slots each",
            "since",
            "seen",
            "running",
        ],
        listed.iter().map(|it| {
            let consumer = &it.consumer;
            [
                consumer.id.clone(),
                consumer.state.to_string(),
                consumer.version.clone(),
                consumer.engines.join(","),
                consumer.slots.to_string(),
                instant(consumer.started_at),
                format!("{} ago", span(now - consumer.seen_at)),
                it.running.len().to_string(),
            ]
        }),
    );
    let running: Vec<_> = listed.iter().flat_map(|it| it.running.clone()).collect();
    if running.is_empty() {
        return consumers;
    }
    format!("{consumers}\n{}", queue::running(&running))
}
