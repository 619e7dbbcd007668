//! `lastgood point pin|unpin|hold|release|confirm`: an operator's decisions about a restore point.

use uuid::Uuid;

use crate::{
    catalog::{Custody, Order},
    cli::{catalog, output::Output},
};

/// Which point, and why.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct KeepArgs {
    /// Its id
    id: Uuid,
    /// Why; shown and recorded
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
}

/// Which point to keep no more.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct NoMoreArgs {
    /// Its id
    id: Uuid,
}

pub(super) async fn keep(custody: Custody, args: &KeepArgs, output: &Output) -> anyhow::Result<()> {
    let catalog = catalog().await?;
    catalog.keep(args.id, custody, &args.reason).await?;
    let (done, how) = match custody {
        Custody::Pin => ("pinned", "unpin"),
        Custody::Hold => ("held", "release"),
    };
    output.show(&catalog.shown_point(args.id).await?.point, |point| {
        format!(
            "{done}: it does not expire until `lastgood point {how} {}`",
            point.id
        )
    })
}

pub(super) async fn confirm(args: &KeepArgs, output: &Output) -> anyhow::Result<()> {
    let order = Order::of_this_user(Some(&args.reason));
    let catalog = catalog().await?;
    catalog.confirm(args.id, &args.reason, &order).await?;
    output.show(&catalog.shown_point(args.id).await?.point, |_| {
        "confirmed: it is trusted like any other, and older ones expire as usual".to_owned()
    })
}

pub(super) async fn keep_no_more(
    custody: Custody,
    args: &NoMoreArgs,
    output: &Output,
) -> anyhow::Result<()> {
    let catalog = catalog().await?;
    catalog.keep_no_more(args.id, custody).await?;
    let done = match custody {
        Custody::Pin => "unpinned",
        Custody::Hold => "released",
    };
    output.show(&catalog.shown_point(args.id).await?.point, |_| {
        format!("{done}: its retention applies again, see `lastgood retention plan`")
    })
}
