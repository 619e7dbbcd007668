//! A resource as the tests describe it: by a URL, which may be one that does not parse as an address.

use lastgood_jobs::{
    attempt::{Attempt, RunId},
    backup::{self, Previous, RestorePoint},
    engine::address::Address,
    error::JobError,
    job::{DropReplaced, Restore},
    resource::{Engine, Resource, ResourceId, ResourceOptions, TeamId, Tier},
    restore::{self, Restored},
    sought::Sought,
    worker::Worker,
};
use secrecy::SecretString;

#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) id: ResourceId,
    pub(crate) team: TeamId,
    pub(crate) tier: Tier,
    pub(crate) engine: Engine,
    pub(crate) url: SecretString,
    pub(crate) options: ResourceOptions,
}

impl Subject {
    fn resource(&self) -> Result<Resource, JobError> {
        Ok(Resource {
            id: self.id.clone(),
            team: self.team.clone(),
            tier: self.tier.clone(),
            engine: self.engine,
            address: Address::parse(self.engine, &self.url)?,
            options: self.options,
        })
    }
}

pub(crate) async fn backup(
    attempt: Attempt,
    subject: &Subject,
    previous: Option<Previous>,
    worker: &Worker,
) -> Result<RestorePoint, JobError> {
    backup::backup(attempt, &subject.resource()?, previous, worker).await
}

pub(crate) async fn restore(
    attempt: Attempt,
    subject: &Subject,
    job: &Restore,
    sought: &Sought<'_>,
    target_url: Option<SecretString>,
    worker: &Worker,
) -> Result<Restored, JobError> {
    let parsed = |url: SecretString| Address::parse(subject.engine, &url);
    let target = target_url.map(parsed).transpose()?;
    let resource = subject.resource()?;
    restore::restore(attempt, &resource, job, sought, target.as_ref(), worker).await
}

pub(crate) async fn drop_replaced(subject: &Subject, job: &DropReplaced) -> Result<(), JobError> {
    restore::drop_replaced(&subject.resource()?, job).await
}

pub(crate) async fn reopen(subject: &Subject, database: &str, run: RunId) -> Result<(), JobError> {
    restore::reopen(&subject.resource()?, database, run).await
}
