//! The flags of `resource add` and `resource set` that only some engines have.

use lastgood_jobs::resource::{Engine, ReadPreference, ResourceOptions};

use crate::request::{self, OptionsChange};

#[derive(Debug, clap::Args)]
pub(super) struct OptionsArgs {
    /// MongoDB: the member to read from: `primary`, or `secondary-preferred` to spare the primary. Default: as the URL says
    #[arg(long, value_name = "MEMBER", value_parser = parse_read_preference)]
    read_preference: Option<ReadPreference>,
    /// MongoDB: also back up the users and roles of the database, including their password hashes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    users_and_roles: Option<bool>,
    /// MongoDB: back up and restore this one shard of a sharded cluster
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    shard: Option<bool>,
}

impl OptionsArgs {
    pub(super) fn is_given(&self) -> bool {
        self.change().is_any()
    }

    fn change(&self) -> OptionsChange {
        OptionsChange {
            read_preference: self.read_preference,
            users_and_roles: self.users_and_roles,
            shard: self.shard,
        }
    }

    /// Returns `before` with the given flags applied.
    pub(super) fn apply(
        &self,
        engine: Engine,
        before: ResourceOptions,
    ) -> anyhow::Result<ResourceOptions> {
        Ok(request::changed_options(self.change(), engine, before)?)
    }
}

fn parse_read_preference(text: &str) -> Result<ReadPreference, String> {
    match text {
        "primary" => Ok(ReadPreference::Primary),
        "secondary-preferred" | "secondaryPreferred" => Ok(ReadPreference::SecondaryPreferred),
        _ => Err("use primary or secondary-preferred".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays() -> anyhow::Result<()> {
        let given = OptionsArgs {
            read_preference: None,
            users_and_roles: Some(true),
            shard: None,
        };
        let before = ResourceOptions {
            read_preference: Some(ReadPreference::SecondaryPreferred),
            users_and_roles: false,
            shard: true,
        };
        let after = given.apply(Engine::Mongodb, before)?;
        assert_eq!(after.read_preference, before.read_preference);
        assert!(after.users_and_roles && after.shard);
        Ok(())
    }

    #[test]
    fn an_engine_without_options_refuses_them() {
        let given = OptionsArgs {
            read_preference: None,
            users_and_roles: Some(false),
            shard: None,
        };
        let refused = given.apply(Engine::Redis, ResourceOptions::default());
        assert!(refused.unwrap_err().to_string().contains("MongoDB"));
    }
}
