//! A customer's database on a real server: created for one test, and dropped however it ends.

use anyhow::{Context as _, Result};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    postgres::PgConnectOptions,
};
use uuid::Uuid;

use crate::variable;

/// What the customer's role may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    /// Own its database and create others, as customers can.
    Owner,
    /// Also create extensions that are not trusted.
    Superuser,
}

/// A password of characters that a URL must encode.
pub(super) const PASSWORD: &str = "h0n/ey:p@t%2F 'q\"\\ü-marker";

/// A role, and a database of the same name that it owns.
pub(super) struct Customer {
    pub(super) name: String,
    password: String,
    server: PgConnectOptions,
}

impl Customer {
    /// Creates a role and its database on the server of `LASTGOOD_TEST_PG18_URL`.
    pub(super) async fn create(rights: Rights) -> Result<Self> {
        Self::with_password(rights, PASSWORD).await
    }

    pub(super) async fn with_password(rights: Rights, password: &str) -> Result<Self> {
        let server: PgConnectOptions = variable("LASTGOOD_TEST_PG18_URL")?.parse()?;
        let name = format!("e2e_{}", &Uuid::new_v4().simple().to_string()[..12]);
        let customer = Self {
            name,
            password: password.to_owned(),
            server: server.disable_statement_logging(),
        };
        let right = match rights {
            Rights::Owner => "createdb",
            Rights::Superuser => "superuser",
        };
        let (name, password) = (&customer.name, password.replace('\'', "''"));
        customer
            .as_superuser(&format!(
                "create role {name} login {right} password '{password}'"
            ))
            .await?;
        customer
            .as_superuser(&format!(
                "create database {name} owner {name} template template0"
            ))
            .await?;
        Ok(customer)
    }

    /// Returns the URL of the customer's database, as the customer hands it over.
    pub(super) fn url(&self) -> String {
        self.url_of(&self.name)
    }

    /// Returns the URL of another database on the same server.
    pub(super) fn url_of(&self, database: &str) -> String {
        self.url_with(self.server.get_port(), &self.password, database)
    }

    /// Returns a URL with one part or another wrong.
    pub(super) fn url_with(&self, port: u16, password: &str, database: &str) -> String {
        let (host, password) = (self.server.get_host(), encoded(password));
        format!(
            "postgresql://{}:{password}@{host}:{port}/{database}",
            self.name
        )
    }

    pub(super) fn port(&self) -> u16 {
        self.server.get_port()
    }

    /// Connects to the customer's database as its owner.
    pub(super) async fn session(&self) -> Result<PgConnection> {
        self.session_in(&self.name).await
    }

    async fn session_in(&self, database: &str) -> Result<PgConnection> {
        let options = self.server.clone().database(database);
        Ok(options
            .username(&self.name)
            .password(&self.password)
            .connect()
            .await?)
    }

    /// Runs statements in the customer's database as its owner.
    pub(super) async fn run(&self, statements: &str) -> Result<()> {
        let mut session = self.session().await?;
        session
            .execute(sqlx::raw_sql(AssertSqlSafe(statements.to_owned())))
            .await?;
        Ok(())
    }

    /// Returns the text that a query selects in the customer's database.
    pub(super) async fn ask(&self, question: &str) -> Result<String> {
        self.ask_in(&self.name, question).await
    }

    /// Returns the text that a query selects in another of the customer's databases.
    pub(super) async fn ask_in(&self, database: &str, question: &str) -> Result<String> {
        let mut session = self.session_in(database).await?;
        let answer: Option<String> = sqlx::query_scalar(AssertSqlSafe(question.to_owned()))
            .fetch_one(&mut session)
            .await
            .context(question.to_owned())?;
        Ok(answer.unwrap_or_default())
    }

    /// Runs one statement as the server's superuser.
    pub(super) async fn as_superuser(&self, statement: &str) -> Result<()> {
        let mut session = self.server.clone().connect().await?;
        session
            .execute(sqlx::raw_sql(AssertSqlSafe(statement.to_owned())))
            .await?;
        session.close().await?;
        Ok(())
    }

    /// Returns the names of the customer's databases: its own and those that restores created.
    pub(super) async fn databases(&self) -> sqlx::Result<Vec<String>> {
        databases(&self.server, &self.name).await
    }

    /// Locks `table` against readers, so that a dump stops before its first byte.
    pub(super) async fn lock(&self, table: &str) -> Result<Locked> {
        let mut session = self.session().await?;
        let statement = format!("begin; lock table {table} in access exclusive mode");
        session
            .execute(sqlx::raw_sql(AssertSqlSafe(statement)))
            .await?;
        Ok(Locked(session))
    }

    /// Returns how many of lastgood's sessions are in the database, and how many of them wait for a lock.
    pub(super) async fn dumping(&self) -> Result<(i64, i64)> {
        let mut session = self.server.clone().connect().await?;
        Ok(sqlx::query_as(
            "select count(*), count(*) filter (where wait_event_type = 'Lock') from pg_stat_activity
             where datname = $1 and application_name = 'lastgood'",
        )
        .bind(&self.name)
        .fetch_one(&mut session)
        .await?)
    }
}

/// A session that holds a lock on a table.
pub(super) struct Locked(PgConnection);

impl Locked {
    pub(super) async fn release(self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}

/// Returns the text encoded for a URL, with no special characters left.
pub(super) fn encoded(text: &str) -> String {
    let spelled = |byte: u8| {
        if byte.is_ascii_alphanumeric() {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(spelled).collect()
}

async fn databases(server: &PgConnectOptions, prefix: &str) -> sqlx::Result<Vec<String>> {
    let mut session = server.clone().connect().await?;
    sqlx::query_scalar(
        "select datname::text from pg_database where starts_with(datname::text, $1) order by 1",
    )
    .bind(prefix)
    .fetch_all(&mut session)
    .await
}

impl Drop for Customer {
    /// Uses a runtime of its own, to work after a panic or an early return too.
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let dropping = std::thread::spawn(move || -> Result<()> {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(async {
                    let mut session = server.clone().connect().await?;
                    for database in databases(&server, &name).await? {
                        let statement =
                            format!("drop database if exists {database:?} with (force)");
                        session
                            .execute(sqlx::raw_sql(AssertSqlSafe(statement)))
                            .await?;
                    }
                    let statement = format!("drop role if exists {name}");
                    session
                        .execute(sqlx::raw_sql(AssertSqlSafe(statement)))
                        .await?;
                    Ok(())
                })
        });
        // What is left behind on a private server is no reason to fail a test.
        drop(dropping.join());
    }
}
