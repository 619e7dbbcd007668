//! `lastgood consumer list|drain`: which consumers are alive and what they run, and draining one.

use serde::Serialize;

use crate::{
    catalog::{ConsumerRow, ConsumerState, Order, RunningRun},
    cli::{
        output::{Output, instant, span, table},
        queue,
    },
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
    consumer: ConsumerRow,
    seen_seconds_ago: i64,
    running: Vec<RunningRun>,
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    let catalog = crate::cli::catalog().await?;
    match command {
        Command::List => {
            let (consumers, running) = (catalog.live_consumers().await?, catalog.running().await?);
            let now = catalog.now().await?;
            let listed: Vec<_> = consumers
                .into_iter()
                .map(|consumer| Listed {
                    seen_seconds_ago: (now - consumer.seen_at).num_seconds(),
                    running: running
                        .iter()
                        .filter(|run| run.worker == consumer.id)
                        .cloned()
                        .collect(),
                    consumer,
                })
                .collect();
            output.show(&listed, |listed| list(listed))
        }
        Command::Drain { id, reason } => {
            let order = Order::of_this_user(reason.as_deref());
            catalog.drain_consumer(&id, &order).await?;
            let text = format!(
                "{id} was asked to drain: it claims no more runs, and exits when its last one has ended"
            );
            output.done("asked", &text)
        }
    }
}

fn list(listed: &[Listed]) -> String {
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
                state(consumer).to_string(),
                consumer.version.clone(),
                consumer.queues.join(","),
                consumer.slots.to_string(),
                instant(consumer.started_at),
                format!(
                    "{} ago",
                    span(chrono::TimeDelta::seconds(it.seen_seconds_ago))
                ),
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

/// Returns the state, counting a requested drain at once. The consumer itself reports it with its next heartbeat.
fn state(consumer: &ConsumerRow) -> ConsumerState {
    match consumer.drain_requested_at {
        Some(_) => ConsumerState::Draining,
        None => consumer.state,
    }
}
