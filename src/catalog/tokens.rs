//! Tokens of the HTTP API: creates, lists, looks up and revokes them.

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::{Audit, Catalog, CatalogError, Order, audit::record_by, error::violated};
use crate::{
    nouns,
    token::{Scope, Token, TokenHash},
};

/// A token to be created.
pub struct NewToken<'a> {
    /// Its name in the audit log.
    pub name: &'a str,
    /// What its holder may do.
    pub scopes: &'a [Scope],
    /// The only team whose resources it may see and change; `None`: all teams.
    pub team: Option<&'a str>,
    /// When it expires; `None`: never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The holder of a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The token's id.
    pub id: Uuid,
    /// The token's name.
    pub name: String,
    /// What the holder may do.
    pub scopes: Vec<Scope>,
    /// The only team whose resources the holder may see and change; `None`: all teams.
    pub team: Option<String>,
}

impl Catalog {
    /// Creates a token, and returns it with its text, which the caller can show only this once.
    pub async fn create_token(
        &self,
        new: &NewToken<'_>,
        order: &Order,
    ) -> Result<(nouns::Token, Token), CatalogError> {
        let token = Token::generate();
        let scopes: Vec<_> = new.scopes.iter().map(ToString::to_string).collect();
        let hash = token.hash();
        let mut transaction = self.pool().begin().await?;
        let row = sqlx::query_as!(
            nouns::Token,
            "insert into lastgood.tokens (id, name, hash, scopes, team, expires_at) values ($1, $2, $3, $4, $5, $6)
             returning id, name, scopes, team, created_at, expires_at, revoked_at, last_used_at",
            token.id,
            new.name,
            hash.as_bytes(),
            &scopes,
            new.team,
            new.expires_at
        )
        .fetch_one(&mut *transaction)
        .await
        .map_err(|error| match violated(&error) {
            Some("tokens_name_in_use") => CatalogError::TokenNameInUse(new.name.to_owned()),
            Some(_) | None => error.into(),
        })?;
        let entry = Audit::new(
            "create_token",
            json!({
                "token": token.id, "name": new.name, "scopes": scopes, "team": new.team, "expires_at": new.expires_at,
            }),
        );
        record_by(&mut transaction, order.by(), &entry).await?;
        transaction.commit().await?;
        Ok((row, token))
    }

    /// Returns all tokens, revoked ones last.
    pub async fn tokens(&self) -> Result<Vec<nouns::Token>, CatalogError> {
        let rows = sqlx::query_as!(
            nouns::Token,
            "select id, name, scopes, team, created_at, expires_at, revoked_at, last_used_at from lastgood.tokens
             order by revoked_at is not null, name, created_at"
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns whether any token is valid.
    pub async fn has_tokens(&self) -> Result<bool, CatalogError> {
        let any = sqlx::query_scalar!(
            r#"select exists (
                 select from lastgood.tokens where revoked_at is null and (expires_at is null or expires_at > now())
               ) as "any!""#
        )
        .fetch_one(self.pool())
        .await?;
        Ok(any)
    }

    /// Revokes a token. Idempotent.
    pub async fn revoke_token(
        &self,
        id: Uuid,
        order: &Order,
    ) -> Result<nouns::Token, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let revoked = sqlx::query_as!(
            nouns::Token,
            "update lastgood.tokens set revoked_at = coalesce(revoked_at, now()) where id = $1
             returning id, name, scopes, team, created_at, expires_at, revoked_at, last_used_at",
            id
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| CatalogError::not_found("token", &id, "token list"))?;
        let entry = Audit::new("revoke_token", json!({ "token": id, "name": revoked.name }));
        record_by(&mut transaction, order.by(), &entry).await?;
        transaction.commit().await?;
        Ok(revoked)
    }

    /// Returns a token's holder if the token is valid: known, not revoked, not expired.
    pub async fn holder(&self, token: &Token) -> Result<Option<Holder>, CatalogError> {
        let row = sqlx::query!(
            r#"select name, hash, scopes, team,
                 coalesce(last_used_at < now() - interval '1 minute', true) as "is_news!"
               from lastgood.tokens
               where id = $1 and revoked_at is null and (expires_at is null or expires_at > now())"#,
            token.id
        )
        .fetch_optional(self.pool())
        .await?;
        let Some(row) =
            row.filter(|row| TokenHash::stored(&row.hash).is_some_and(|hash| hash.is_of(token)))
        else {
            return Ok(None);
        };
        if row.is_news {
            sqlx::query!(
                "update lastgood.tokens set last_used_at = now() where id = $1",
                token.id
            )
            .execute(self.pool())
            .await?;
        }
        Ok(Some(Holder {
            id: token.id,
            name: row.name,
            // Scopes of later versions are ignored.
            scopes: row
                .scopes
                .iter()
                .filter_map(|scope| scope.parse().ok())
                .collect(),
            team: row.team,
        }))
    }

    /// Returns whether a token that was valid when it was presented still is.
    pub async fn is_token_good(&self, id: Uuid) -> Result<bool, CatalogError> {
        let good = sqlx::query_scalar!(
            r#"select exists (
                 select from lastgood.tokens
                 where id = $1 and revoked_at is null and (expires_at is null or expires_at > now())
               ) as "good!""#,
            id
        )
        .fetch_one(self.pool())
        .await?;
        Ok(good)
    }
}
