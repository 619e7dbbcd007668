//! Closed sets that are stored by name: an enum in Rust, a text column with a check constraint in the catalog.
//!
//! `sqlx.toml` maps the columns to the types.

/// A stored name that no closed set of this build contains.
#[derive(Debug, thiserror::Error)]
#[error(
    "this build does not know the {what} {name:?}: a newer lastgood may have written it; use that version"
)]
pub(crate) struct Unknown {
    pub(crate) what: &'static str,
    pub(crate) name: String,
}

/// Declares a closed set. The names are the variants in snake case: in text columns, in JSON and on the command line.
macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$variant_doc:meta])* $variant:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema, clap::ValueEnum,
            strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
        )]
        #[serde(rename_all = "snake_case")]
        #[strum(serialize_all = "snake_case")]
        #[clap(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$variant_doc])* $variant),*
        }

        impl $name {
            /// All variants.
            pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

            /// Returns the stored name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                self.into()
            }
        }

        impl sqlx::Type<sqlx::Postgres> for $name {
            fn type_info() -> sqlx::postgres::PgTypeInfo {
                <str as sqlx::Type<sqlx::Postgres>>::type_info()
            }

            fn compatible(other: &sqlx::postgres::PgTypeInfo) -> bool {
                <str as sqlx::Type<sqlx::Postgres>>::compatible(other)
            }
        }

        impl<'r> sqlx::Decode<'r, sqlx::Postgres> for $name {
            fn decode(value: sqlx::postgres::PgValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
                let text = <&str as sqlx::Decode<sqlx::Postgres>>::decode(value)?;
                text.parse().map_err(|_| $crate::closed_set::Unknown { what: $what, name: text.chars().take(40).collect() }.into())
            }
        }
    };
}

pub(crate) use closed_set;
