//! What a server or a store said when a job failed: text and nothing else.

/// What the customer's server said, or the connection to it.
///
/// Holds only text, so that nothing else can leak. The caller of `new` ensures that the text shows no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{said}")]
pub struct ServerFault {
    pub(super) said: String,
    pub(super) code: Option<String>,
    pub(super) is_final: bool,
}

impl ServerFault {
    /// Makes a fault of a message, and of the server's own code if it was the server that spoke.
    pub(crate) fn new(said: impl Into<String>, code: Option<String>) -> Self {
        let said = said.into();
        Self {
            said,
            code,
            is_final: false,
        }
    }

    /// Returns the same fault, marked as one that no retry can mend.
    #[must_use]
    pub(crate) fn for_good(self) -> Self {
        Self {
            is_final: true,
            ..self
        }
    }

    /// Returns whether no retry can mend it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.is_final
    }

    /// Returns the server's own code: an SQLSTATE, MongoDB's number, or the first word of a Redis error. `None` if the
    /// connection failed.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Returns whether waiting for a lock timed out.
    pub(crate) fn is_of_lock(&self) -> bool {
        self.code() == Some("55P03")
    }

    /// Returns whether a database was in use.
    pub(crate) fn is_in_use(&self) -> bool {
        self.code() == Some("55006")
    }
}

impl From<&sqlx::Error> for ServerFault {
    fn from(error: &sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return Self::new(error.to_string(), None);
        };
        let code = database.code().map(std::borrow::Cow::into_owned);
        let said = match &code {
            Some(code) => format!("{} (SQLSTATE {code})", database.message()),
            None => database.message().to_owned(),
        };
        Self::new(said, code)
    }
}

/// What the store said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreFault(pub(crate) String);
