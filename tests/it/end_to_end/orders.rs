//! A customer's MongoDB database on the tests' server, with an owner of its own and data of many kinds.

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use mongodb::{
    Client, Database,
    bson::{Bson, Document, RawDocumentBuf, doc},
};
use uuid::Uuid;

use crate::variable;

/// Part of the password, which must not show up anywhere else.
pub(super) const MARKER: &str = "hunter2mongodbmarker";

/// A database and its owner, who may read and write this database only. [`Orders::drop`] drops both.
pub(super) struct Orders {
    pub(super) name: String,
    server: url::Url,
    admin: Client,
}

impl Orders {
    pub(super) async fn create() -> Result<Self> {
        let url = variable("LASTGOOD_TEST_MONGODB_URL")?;
        let admin = Client::with_uri_str(&url).await?;
        let name = format!("e2e_{}", &Uuid::new_v4().simple().to_string()[..12]);
        let roles = ["readWrite", "dbAdmin"].map(|role| doc! { "role": role, "db": &name });
        let owner = doc! { "createUser": &name, "pwd": MARKER, "roles": roles.to_vec() };
        admin.database("admin").run_command(owner).await?;
        let orders = Self {
            name,
            server: url.parse()?,
            admin,
        };
        Ok(orders)
    }

    pub(super) fn url(&self) -> String {
        self.url_with(MARKER, &self.name)
    }

    pub(super) fn url_with(&self, password: &str, database: &str) -> String {
        let mut url = self.server.clone();
        url.set_path(database);
        url.set_username(&self.name)
            .and_then(|()| url.set_password(Some(password)))
            .ok();
        url.to_string()
    }

    pub(super) fn database(&self) -> Database {
        self.admin.database(&self.name)
    }

    pub(super) async fn fill(&self) -> Result<()> {
        let database = self.database();
        let options = doc! {
            "create": "orders",
            "validator": { "total": { "$gte": 0 } },
            "validationLevel": "moderate",
        };
        database.run_command(options).await?;
        let orders = database.collection::<Document>("orders");
        let documents = (0..500).map(|n| {
            doc! { "_id": n, "total": f64::from(n) / 3.0, "at": Bson::DateTime(mongodb::bson::DateTime::from_millis(n.into())),
            "lines": [{ "sku": "a", "n": i64::from(n) }, Bson::Null], "note": "ü\u{0}é" }
        });
        orders.insert_many(documents).await?;
        let indexes = doc! {
            "createIndexes": "orders",
            "indexes": [
                { "key": { "total": -1, "at": 1, "_id": 1 }, "name": "z_then_a" },
                { "key": { "at": 1 }, "name": "old", "expireAfterSeconds": i32::MAX },
            ],
        };
        database.run_command(indexes).await?;
        let view = doc! { "create": "dear", "viewOn": "orders", "pipeline": [{ "$match": { "total": { "$gt": 100 } } }] };
        database.run_command(view).await?;
        Ok(())
    }

    /// Adds a document that breaks the collection's validator.
    pub(super) async fn break_the_rule(&self) -> Result<()> {
        let one = doc! { "_id": -1, "total": -1 };
        let insert =
            doc! { "insert": "orders", "documents": [one], "bypassDocumentValidation": true };
        self.database().run_command(insert).await?;
        Ok(())
    }

    /// Returns what a restore must bring back: every document's bytes, and the server's descriptions of collections and indexes.
    pub(super) async fn state(&self) -> Result<Vec<String>> {
        let database = self.database();
        let mut state = Vec::new();
        let mut names = database.list_collection_names().await?;
        names.sort();
        for name in names.iter().filter(|name| !name.starts_with("system.")) {
            let listed = doc! { "listCollections": 1, "filter": { "name": name } };
            let listed = database.run_command(listed).await?;
            let options = listed.get_document("cursor")?.get_array("firstBatch")?;
            let options = options
                .first()
                .and_then(Bson::as_document)
                .context("gone")?;
            state.push(format!(
                "{name}: {} {:?}",
                options.get_str("type")?,
                options.get("options")
            ));
            if options.get_str("type")? == "view" {
                continue;
            }
            let indexes = database.run_command(doc! { "listIndexes": name }).await?;
            state.push(format!(
                "{:?}",
                indexes.get_document("cursor")?.get("firstBatch")
            ));
            let found = database.collection::<RawDocumentBuf>(name);
            let found = found.find(doc! {}).sort(doc! { "_id": 1 }).await?;
            let documents: Vec<RawDocumentBuf> = found.try_collect().await?;
            state.extend(documents.iter().map(|it| format!("{:?}", it.as_bytes())));
        }
        ensure!(state.len() > 500, "{}", state.len());
        Ok(state)
    }

    pub(super) async fn lose(&self) -> Result<()> {
        Ok(self.database().drop().await?)
    }

    /// Drops the database and its owner.
    pub(super) async fn drop(self) -> Result<()> {
        self.database().drop().await?;
        let admin = self.admin.database("admin");
        admin.run_command(doc! { "dropUser": &self.name }).await?;
        Ok(())
    }
}
