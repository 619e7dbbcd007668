//! How are lent keys requested? By reqsign's providers, which see only the environment that they are given.

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
/// The address of STS, if it is not AWS's own.
const STS: &str = "AWS_ENDPOINT_URL_STS";

/// For how long a lender that fails in passing is asked again, and the first pause.
const ASKED_FOR: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A lender of keys.
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

    /// Asks for keys, again for a few seconds if that fails in passing.
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

/// The keys of a profile, or of its SSO session.
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

/// Returns what a lender lacks.
fn lacking(by: LentBy) -> &'static str {
    match by {
        LentBy::WebIdentity => "set AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE",
        LentBy::Container => {
            "set AWS_CONTAINER_CREDENTIALS_FULL_URI or AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
        }
        LentBy::Profile => {
            "the profile has no keys, and its SSO session has ended: `aws sso login` starts a new one"
        }
        LentBy::Instance => "AWS_EC2_METADATA_DISABLED is set",
    }
}

fn may_pass(error: &reqsign_core::Error) -> bool {
    match error.kind() {
        // An expired token is replaced by the program that wrote it.
        ErrorKind::CredentialInvalid | ErrorKind::RateLimited | ErrorKind::Unexpected => true,
        ErrorKind::PermissionDenied | ErrorKind::ConfigInvalid | ErrorKind::RequestInvalid => false,
    }
}

/// Returns what went wrong, with no cause except the network's: a parser's error may repeat a secret. For a container's
/// agent, only the client's own words are kept: the agent was sent a secret, and its answer may repeat it.
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
