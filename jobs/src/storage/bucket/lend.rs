//! How are keys asked for that are lent for a while? By reqsign's providers, which see the surroundings that they are given and no more.

mod asking;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reqsign_aws_v4::{
    AssumeRoleWithWebIdentityCredentialProvider, Credential, ECSCredentialProvider,
    IMDSv2CredentialProvider, ProfileCredentialProvider, SSOCredentialProvider,
};
use reqsign_core::{Context, ErrorKind, ProvideCredential, ProvideCredentialDyn, StaticEnv};

use self::asking::{Asking, Files};
use super::{
    held::NoKeys,
    source::{Lender, LentBy},
};
use crate::error::{JobError, chain};

const SESSION_NAME: &str = "AWS_ROLE_SESSION_NAME";
/// Where STS is, where it is not AWS's own.
const STS: &str = "AWS_ENDPOINT_URL_STS";

/// For how long a lender is asked again who fails in passing, and how long after the first time.
const ASKED_FOR: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Somebody who lends keys.
pub(super) struct Lending {
    by: LentBy,
    provider: Arc<dyn ProvideCredentialDyn<Credential = Credential>>,
    context: Context,
}

impl Lending {
    pub(super) fn new(lender: &Lender, region: &str) -> Result<Self, JobError> {
        let mut variables = lender.surroundings.variables.clone();
        let sts = variables.get(STS).cloned();
        let own_region = variables.get("AWS_REGION").cloned();
        let region = own_region.unwrap_or_else(|| region.to_owned());
        variables
            .entry(SESSION_NAME.to_owned())
            .or_insert_with(|| "lastgood".to_owned());
        let (provider, sts): (Arc<dyn ProvideCredentialDyn<Credential = Credential>>, _) =
            match lender.by {
                LentBy::WebIdentity => {
                    let web = AssumeRoleWithWebIdentityCredentialProvider::new()
                        .with_region(region)
                        .with_regional_sts_endpoint();
                    (Arc::new(web), sts)
                }
                LentBy::Container => (Arc::new(ECSCredentialProvider::new()), None),
                LentBy::Profile => (Arc::new(Profile::default()), None),
                LentBy::Instance => (Arc::new(IMDSv2CredentialProvider::new()), None),
            };
        let environment = StaticEnv {
            home_dir: lender.surroundings.home.clone(),
            envs: variables.into_iter().collect(),
        };
        Ok(Self {
            by: lender.by,
            provider,
            context: Context::new()
                .with_file_read(Files)
                .with_http_send(Asking::new(sts)?)
                .with_env(environment),
        })
    }

    pub(super) fn by(&self) -> LentBy {
        self.by
    }

    /// Asks for keys, for a few seconds where it fails in passing.
    pub(super) async fn lend(&self) -> Result<Credential, NoKeys> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.asked().await {
                Err(none) if none.may_pass && begun.elapsed() + pause < ASKED_FOR => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                asked => return asked,
            }
        }
    }

    async fn asked(&self) -> Result<Credential, NoKeys> {
        let by = self.by;
        match self.provider.provide_credential_dyn(&self.context).await {
            Ok(Some(keys)) => Ok(keys),
            Ok(None) => Err(NoKeys {
                why: format!("{by} lends none: {}", lacking(by)),
                may_pass: false,
            }),
            Err(error) => Err(NoKeys {
                why: format!("{by} lends none: {}", told(by, &error)),
                may_pass: may_pass(&error),
            }),
        }
    }
}

/// A profile's keys, or those of its SSO session.
#[derive(Debug, Default)]
struct Profile {
    keys: ProfileCredentialProvider,
    sso: SSOCredentialProvider,
}

impl ProvideCredential for Profile {
    type Credential = Credential;

    async fn provide_credential(
        &self,
        context: &Context,
    ) -> reqsign_core::Result<Option<Credential>> {
        match self.keys.provide_credential(context).await? {
            Some(keys) => Ok(Some(keys)),
            None => self.sso.provide_credential(context).await,
        }
    }
}

/// What a lender needs that was not there.
fn lacking(by: LentBy) -> &'static str {
    match by {
        LentBy::WebIdentity => "set AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE",
        LentBy::Container => {
            "set AWS_CONTAINER_CREDENTIALS_FULL_URI or AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
        }
        LentBy::Profile => {
            "the profile has no keys, and its SSO session has ended: `aws sso login` begins another"
        }
        LentBy::Instance => "AWS_EC2_METADATA_DISABLED is set",
    }
}

fn may_pass(error: &reqsign_core::Error) -> bool {
    match error.kind() {
        // A token that has expired is replaced by whoever wrote it.
        ErrorKind::CredentialInvalid | ErrorKind::RateLimited | ErrorKind::Unexpected => true,
        ErrorKind::PermissionDenied | ErrorKind::ConfigInvalid | ErrorKind::RequestInvalid => false,
    }
}

/// Returns what went wrong. Of the causes, only the network's: a parser's may repeat a secret. So may what a container's agent says
/// after the client's own words, whoever it is: it was sent one.
fn told(by: LentBy, error: &reqsign_core::Error) -> String {
    let said = error.to_string();
    let own = match by {
        LentBy::Container => said.split(": ").next().unwrap_or_default(),
        LentBy::WebIdentity | LentBy::Profile | LentBy::Instance => &said,
    };
    let mut cause = std::error::Error::source(error);
    while let Some(found) = cause {
        if found.is::<reqwest::Error>() || found.is::<std::io::Error>() {
            return format!("{own}: {}", chain(found));
        }
        cause = found.source();
    }
    own.to_owned()
}
