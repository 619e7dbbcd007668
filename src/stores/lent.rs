//! Who lends keys here? The variables of AWS's own tools name the lender, which is asked only if a store's configuration says so.

use lastgood_jobs::storage::{KeySource, Lender, LentBy, Surroundings};

use super::{StoresError, environment::text};

const ROLE: &str = "AWS_ROLE_ARN";
const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const CONTAINER: [&str; 2] = [
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];
const PROFILE: [&str; 3] = [
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
];
/// The other variables that a lender's client may see.
const OTHERS: [&str; 9] = [
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_ENDPOINT_URL_STS",
    "AWS_REGION",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SSO_ENDPOINT",
    "HOME",
];

/// Returns the given lender, or without one the first that the environment names.
pub(super) fn lender(by: Option<LentBy>) -> Result<KeySource, StoresError> {
    let mut surroundings = Surroundings::default();
    let all = [ROLE, TOKEN_FILE]
        .into_iter()
        .chain(CONTAINER)
        .chain(PROFILE)
        .chain(OTHERS);
    for variable in all {
        if let Some(value) = text(variable)? {
            surroundings.variables.insert(variable.to_owned(), value);
        }
    }
    surroundings.home = surroundings.variables.remove("HOME").map(Into::into);
    let by = by.unwrap_or_else(|| first(&surroundings));
    Ok(KeySource::Lent(Lender { by, surroundings }))
}

/// Returns the first lender that the environment names.
///
/// The order is that of AWS's own tools, except that files count only if a variable names them: a machine may have some that nobody meant.
/// A lender that is named but lends nothing is an error, and no other is asked, because its keys would carry somebody else's rights.
fn first(surroundings: &Surroundings) -> LentBy {
    let is_set = |name: &&str| surroundings.variables.contains_key(*name);
    if [ROLE, TOKEN_FILE].iter().all(is_set) {
        LentBy::WebIdentity
    } else if CONTAINER.iter().any(is_set) {
        LentBy::Container
    } else if PROFILE.iter().any(is_set) {
        LentBy::Profile
    } else {
        LentBy::Instance
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing(&[], LentBy::Instance)]
    #[case::irsa(&[ROLE, TOKEN_FILE, "AWS_PROFILE"], LentBy::WebIdentity)]
    #[case::half_of_it(&[ROLE], LentBy::Instance)]
    #[case::ecs(&["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_PROFILE"], LentBy::Container)]
    #[case::pod_identity(&["AWS_CONTAINER_CREDENTIALS_FULL_URI"], LentBy::Container)]
    #[case::files(&["AWS_PROFILE"], LentBy::Profile)]
    fn the_first_lender_that_is_named_lends(#[case] set: &[&str], #[case] by: LentBy) {
        let variables = set.iter().map(|name| ((*name).to_owned(), "x".to_owned()));
        let surroundings = Surroundings {
            variables: variables.collect(),
            home: None,
        };
        assert_eq!(first(&surroundings), by);
    }
}
