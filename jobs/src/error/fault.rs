//! What others said that made a job fail, as text and nothing else.

/// What the database or the connection to it said.
///
/// Made from the driver's error, which never sees the URL; holds text only, so that nothing else can leak.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{said}")]
pub struct SqlFault {
    pub(super) said: String,
    pub(super) code: Option<String>,
}

impl SqlFault {
    /// Returns the SQLSTATE, if it was the database that said something.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Returns whether a database was in use.
    pub(crate) fn is_in_use(&self) -> bool {
        self.code() == Some("55006")
    }
}

impl From<&sqlx::Error> for SqlFault {
    fn from(error: &sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return Self {
                said: error.to_string(),
                code: None,
            };
        };
        let code = database.code().map(std::borrow::Cow::into_owned);
        let said = match &code {
            Some(code) => format!("{} (SQLSTATE {code})", database.message()),
            None => database.message().to_owned(),
        };
        Self { said, code }
    }
}

/// What the store said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreFault(pub(crate) String);
