//! `lastgood token create|list|revoke`.

use std::time::Duration;

use lastgood_jobs::resource::{ResourceId, TeamId};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use super::output::{Output, instant, instant_or_dash, table};
use crate::{
    catalog::{NewToken, Order},
    nouns::{Token, TokenAndSecret},
    token::Scope,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a token, and print it: it is shown only once
    Create {
        /// Its name in the audit log: letters, digits, `.`, `_` and `-`
        #[arg(long)]
        name: ResourceId,
        /// What its holder may do: read, enqueue, restore, admin; admin covers the others
        #[arg(long, required = true, value_delimiter = ',', value_name = "SCOPE")]
        scope: Vec<Scope>,
        /// Limit the token to the resources of this team; default: all teams
        #[arg(long)]
        team: Option<TeamId>,
        /// How long until it expires, e.g. 90d; default: never
        #[arg(long, value_name = "TIME", value_parser = time_to_live)]
        expires: Option<Duration>,
    },
    /// List tokens, without their secrets
    List,
    /// Revoke a token: from now on it is refused
    Revoke {
        /// Its id
        id: Uuid,
    },
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    let catalog = super::catalog().await?;
    let order = Order::of_this_user(None);
    match command {
        Command::Create {
            name,
            mut scope,
            team,
            expires,
        } => {
            scope.sort();
            scope.dedup();
            let expires_at = match expires {
                Some(expires) => {
                    let at = chrono::TimeDelta::from_std(expires).ok();
                    let at = at
                        .zip(Some(catalog.now().await?))
                        .and_then(|(in_time, now)| now.checked_add_signed(in_time));
                    Some(at.filter(|at| *at < chrono::DateTime::<chrono::Utc>::from_timestamp(32_503_680_000, 0).unwrap_or_default())
                        .ok_or_else(|| anyhow::anyhow!("--expires is too far in the future: leave it out for a token that never expires"))?)
                }
                None => None,
            };
            let new = NewToken {
                name: name.as_str(),
                scopes: &scope,
                team: team.as_ref().map(TeamId::as_str),
                expires_at,
            };
            let (made, token) = catalog.create_token(&new, &order).await?;
            let text = token.reveal();
            output.note(&format!(
                "made token {name}, which is shown only once; send it as `Authorization: Bearer …`; `lastgood token revoke {}` revokes it",
                token.id
            ));
            // The secret token is the answer itself: it goes to the caller and to no log.
            let made = TokenAndSecret {
                token: made,
                secret: text.expose_secret(),
            };
            output.show(&made, |made| made.secret.to_owned())
        }
        Command::List => {
            let tokens = catalog.tokens().await?;
            output.show(&tokens, |tokens| list(tokens))
        }
        Command::Revoke { id } => {
            let revoked = catalog.revoke_token(id, &order).await?;
            output.show(&revoked, |revoked| {
                format!(
                    "token {} is revoked: from now on it is refused",
                    revoked.name
                )
            })
        }
    }
}

fn time_to_live(text: &str) -> Result<Duration, String> {
    match crate::config::duration(text) {
        Ok(Duration::ZERO) => {
            Err("the token would be expired at once: give it some time, e.g. 90d".to_owned())
        }
        other => other,
    }
}

fn list(tokens: &[Token]) -> String {
    table(
        [
            "id",
            "name",
            "scopes",
            "team",
            "created",
            "expires",
            "last used",
            "state",
        ],
        tokens.iter().map(|token| {
            [
                token.id.to_string(),
                token.name.clone(),
                token.scopes.join(","),
                token.team.clone().unwrap_or_else(|| "all".to_owned()),
                instant(token.created_at),
                instant_or_dash(token.expires_at),
                instant_or_dash(token.last_used_at),
                match (token.revoked_at, token.expires_at) {
                    (Some(_), _) => "revoked",
                    (None, Some(at)) if at <= chrono::Utc::now() => "expired",
                    (None, _) => "good",
                }
                .to_owned(),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_for_a_while() {
        assert_eq!(time_to_live("1s"), Ok(Duration::from_secs(1)));
        for none in ["0s", "0d 0h"] {
            let refused = time_to_live(none).unwrap_err();
            assert!(refused.contains("expired at once"), "{refused}");
        }
        assert!(time_to_live("soon").is_err());
    }
}
