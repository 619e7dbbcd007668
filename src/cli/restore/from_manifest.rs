//! `lastgood restore --from-manifest KEY`: restores the point whose manifest has this key.

use std::process::ExitCode;

use lastgood_jobs::{error::story, sought::Sought, storage::manifest_key};

use super::{
    super::{locate::locate, output::Output},
    Args,
    in_process::{Outcome, Target, restore_from_one},
};
use crate::stores::{Absent, Stores};

/// What to do if the key leads nowhere. Names no command that needs a catalog.
const OTHERS: &str = "`lastgood point list --from STORE` lists what a store holds";

/// Restores the point into the empty target of `--into`, from the first store that has it intact.
pub(super) async fn run(text: &str, args: &Args, output: &Output) -> anyhow::Result<ExitCode> {
    let target = Target::of(args).await?;
    let stores = Stores::open(&args.storage, &Absent::LeftOut).await?;
    let key = manifest_key(text, stores.iter().map(|store| &store.url))?;
    let sought = Sought::at(&key);
    let located = locate(&sought, &stores).await;
    let located =
        located.map_err(|error| anyhow::anyhow!("{}; {OTHERS}", story(error.as_ref())))?;
    match restore_from_one(&sought, &located, &target, args, output).await? {
        Outcome::Restored(restored) => {
            restored.show(None, output)?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::NotWhole(faults) => anyhow::bail!("{}; {OTHERS}", faults.join("; ")),
    }
}
