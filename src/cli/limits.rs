//! `lastgood limits show|set`: how much services may request.

use super::output::Output;
use crate::catalog::{AdhocLimits, Order};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show the limits in force
    Show,
    /// Change the limits, at once, for the HTTP API and for `lastgood.enqueue_backup`
    #[command(arg_required_else_help = true)]
    Set {
        /// Ad-hoc backups of one resource per hour; 0: none
        #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
        per_resource: Option<i32>,
        /// Ad-hoc backups of all resources of a team per hour; 0: none
        #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
        per_team: Option<i32>,
        /// Resources that a team may register itself, with a token bound to it; 0: none
        #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
        resources_per_team: Option<i32>,
    },
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    let catalog = super::catalog().await?;
    let limits = match command {
        Command::Show => catalog.adhoc_limits().await?,
        Command::Set {
            per_resource,
            per_team,
            resources_per_team,
        } => {
            let order = Order::of_this_user(None);
            catalog
                .set_adhoc_limits(per_resource, per_team, resources_per_team, &order)
                .await?
        }
    };
    output.show(&limits, |limits| {
        let AdhocLimits {
            per_resource,
            per_team,
            resources_per_team,
        } = limits;
        format!(
            "ad-hoc backups that services may ask for per hour: {per_resource} of a resource, {per_team} of a team\n\
             resources that a team may register itself: {resources_per_team}"
        )
    })
}
