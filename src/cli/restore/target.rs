//! Where `lastgood restore` writes: what was asked for, in the words of the resource's engine.

use lastgood_jobs::{
    job::RestoreTarget,
    resource::{Engine, ResourceId},
};

use super::Args;
use crate::secret::{Reference, SecretError};

/// Returns the target, or says what the engine has instead.
pub(super) fn target(
    args: &Args,
    resource: &ResourceId,
    engine: Engine,
) -> anyhow::Result<RestoreTarget> {
    check_flags(args, engine)?;
    if args.in_place {
        let overwrite = args.overwrite.clone().filter(|id| id == resource);
        let overwrite = overwrite.ok_or_else(|| {
            anyhow::anyhow!(
                "--in-place replaces what is there: repeat the id with --overwrite {resource}"
            )
        })?;
        let merge = args.merge;
        return Ok(RestoreTarget::InPlace { overwrite, merge });
    }
    match (&args.into, engine) {
        (Some(into), _) => named(into, engine),
        (None, Engine::Postgres | Engine::Vector) => Ok(RestoreTarget::Swap {}),
        (None, Engine::Mongodb | Engine::Redis) => Ok(RestoreTarget::Own {}),
    }
}

fn check_flags(args: &Args, engine: Engine) -> anyhow::Result<()> {
    let is_postgres = match engine {
        Engine::Postgres | Engine::Vector => true,
        Engine::Mongodb | Engine::Redis => false,
    };
    anyhow::ensure!(
        is_postgres || !(args.no_owner || args.no_acl),
        "--no-owner and --no-acl are PostgreSQL's: {engine} has neither"
    );
    anyhow::ensure!(
        !args.merge || engine == Engine::Redis,
        "--merge is Redis's: in place, {engine} replaces what the backup has and leaves the rest as it is"
    );
    Ok(())
}

fn named(into: &str, engine: Engine) -> anyhow::Result<RestoreTarget> {
    match into.parse::<Reference>() {
        Ok(reference) => Ok(RestoreTarget::Reference {
            reference: reference.to_string(),
        }),
        Err(SecretError::UrlInArgv) => Err(SecretError::UrlInArgv.into()),
        Err(_) if into.starts_with("env:") || into.starts_with("file:") => {
            Err(SecretError::NotAReference.into())
        }
        Err(_) if engine == Engine::Redis => {
            anyhow::bail!(
                "a backup of Redis is of a whole server: give --into env:NAME or file:/path of another server's URL"
            )
        }
        Err(_) => Ok(RestoreTarget::Database {
            name: into.to_owned(),
        }),
    }
}
