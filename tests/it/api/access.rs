//! Every route requires its scope, and shows one team's token nothing of another team's.

use anyhow::{Context as _, Result, ensure};
use axum::http::Method;
use lastgood::{nouns::ResourceStatus, token::Scope};
use serde_json::{Value, json};
use uuid::Uuid;

use super::lab::{Api, request};

/// How a token of another team is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stranger {
    /// As if there were no such thing.
    NotFound,
    /// Refused, because the request concerns every team or names another one.
    NotAllowed,
    /// With the stranger's own things and nothing else.
    NothingOfOurs,
}

/// The things that team `ours` has.
#[derive(Debug, Clone, Copy)]
struct Ours {
    run: Uuid,
    point: Uuid,
    proof: Uuid,
}

impl Ours {
    /// Returns the id of the thing that a path names.
    fn named_by(self, path: &str) -> String {
        if path.starts_with("/runs") {
            self.run.to_string()
        } else if path.starts_with("/restore-points") {
            self.point.to_string()
        } else if path.starts_with("/proofs") {
            self.proof.to_string()
        } else {
            "ourshop".to_owned()
        }
    }
}

struct Route {
    method: Method,
    path: &'static str,
    scope: Scope,
    stranger: Stranger,
    body: Option<Value>,
}

/// Returns every route of the document. `every_route_of_the_document_is_in_the_table` fails if one is missing here.
fn table() -> Vec<Route> {
    use Scope::{Admin, Enqueue, Read, Restore};
    use Stranger::{NotAllowed, NotFound, NothingOfOurs};
    let by_url = json!({ "team": "ours", "tier": "pro", "engine": "postgres", "url": "postgresql://u:p@h/shop" });
    [
        (Method::GET, "/resources", Read, NothingOfOurs, None),
        (Method::GET, "/resources/{id}", Read, NotFound, None),
        (
            Method::PUT,
            "/resources/{id}",
            Admin,
            NotAllowed,
            Some(by_url),
        ),
        (
            Method::PATCH,
            "/resources/{id}",
            Admin,
            NotFound,
            Some(json!({ "tier": "pro" })),
        ),
        (
            Method::GET,
            "/resources/{id}/restore-points",
            Read,
            NotFound,
            None,
        ),
        (
            Method::POST,
            "/resources/{id}/backups",
            Enqueue,
            NotFound,
            None,
        ),
        (
            Method::POST,
            "/resources/{id}/drills",
            Enqueue,
            NotFound,
            None,
        ),
        (
            Method::POST,
            "/restore-points/{id}/confirm",
            Admin,
            NotFound,
            Some(json!({ "reason": "they purged it" })),
        ),
        (
            Method::POST,
            "/resources/{id}/restores",
            Restore,
            NotFound,
            None,
        ),
        (Method::GET, "/runs", Read, NothingOfOurs, None),
        (Method::GET, "/runs/{id}", Read, NotFound, None),
        (Method::GET, "/runs/{id}/events", Read, NotFound, None),
        (Method::POST, "/runs/{id}/retry", Admin, NotFound, None),
        (Method::POST, "/runs/{id}/cancel", Admin, NotFound, None),
        (Method::GET, "/proofs", Read, NothingOfOurs, None),
        (Method::GET, "/proofs/{id}", Read, NotFound, None),
        (Method::GET, "/queue/pauses", Read, NothingOfOurs, None),
        (
            Method::POST,
            "/queue/pauses",
            Admin,
            NotAllowed,
            Some(json!({ "team": "ours", "reason": "a test" })),
        ),
        (
            Method::DELETE,
            "/queue/pauses?team=ours",
            Admin,
            NotFound,
            None,
        ),
        (Method::POST, "/queue/drain", Admin, NotAllowed, None),
        (Method::GET, "/status", Read, NothingOfOurs, None),
        (Method::GET, "/plans", Read, NothingOfOurs, None),
        (Method::GET, "/promise", Read, NothingOfOurs, None),
        (Method::GET, "/capabilities", Read, NothingOfOurs, None),
        (Method::GET, "/consumers", Read, NotAllowed, None),
        (Method::DELETE, "/resources/{id}", Admin, NotFound, None),
    ]
    .into_iter()
    .map(|(method, path, scope, stranger, body)| Route {
        method,
        path,
        scope,
        stranger,
        body,
    })
    .collect()
}

impl Route {
    fn path_of(&self, ours: Ours) -> String {
        self.path.replace("{id}", &ours.named_by(self.path))
    }

    /// Returns whether even a token of the resource's own team is refused, because the route concerns every team.
    fn concerns_all(&self) -> bool {
        matches!(self.path, "/queue/drain" | "/consumers")
    }
}

/// Returns the status, and the body unless it is a stream.
async fn answer(
    api: &Api,
    route: &Route,
    ours: Ours,
    token: Option<&str>,
) -> Result<(u16, String)> {
    let request = request(
        route.method.clone(),
        &route.path_of(ours),
        token,
        route.body.clone(),
    )?;
    if route.path.ends_with("/events") {
        return Ok((api.begin(request).await?.status().as_u16(), String::new()));
    }
    let answer = api.send(request).await?;
    Ok((answer.status.as_u16(), answer.body))
}

/// Creates a resource of team `ours` with a run, a restore point and a proof.
async fn ours(api: &Api) -> Result<Ours> {
    api.db.add("ourshop", "ours", "pro").await?;
    let point = api.restore_point("ourshop", 10).await?;
    let token = api.admin().await?;
    let run = api
        .ask(Method::POST, &token, "/resources/ourshop/backups", None)
        .await?
        .with(202)?;
    let run = run["id"].as_str().context("no id")?.parse()?;
    let proof = crate::proof_ledger::record(&api.db, run, point).await?.id;
    Ok(Ours { run, point, proof })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_document_is_in_the_table() -> Result<()> {
    let document = serde_json::to_value(lastgood::api::document())?;
    let paths = document["paths"].as_object().context("no paths")?;
    let mut described = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().context("no item")? {
            let path = path.strip_prefix("/api/v1").context("another prefix")?;
            let scope = operation["security"][0]["token"][0]
                .as_str()
                .unwrap_or("none");
            described.push((method.to_uppercase(), path.to_owned(), scope.to_owned()));
        }
    }
    let mut tested: Vec<_> = table()
        .into_iter()
        .map(|route| {
            let path = route.path.split('?').next().unwrap_or_default().to_owned();
            (route.method.to_string(), path, route.scope.to_string())
        })
        .collect();
    described.sort();
    tested.sort();
    assert_eq!(described, tested);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_token_no_route_answers() -> Result<()> {
    let api = Api::create().await?;
    let ours = ours(&api).await?;
    let revoked = api.admin().await?;
    let expired = api.admin().await?;
    let mut ids = Vec::new();
    for token in [&revoked, &expired] {
        ids.push(lastgood::token::Token::parse(token).context("no token")?.id);
    }
    let order = lastgood::catalog::Order::new("test", None);
    api.db.catalog.revoke_token(ids[0], &order).await?;
    sqlx::query("update lastgood.tokens set revoked_at = null, expires_at = now() where id = $1")
        .bind(ids[1])
        .execute(api.db.pool())
        .await?;
    // A good token's id with another token's secret, and the good token itself, cut short.
    let good = api.admin().await?;
    let forged = format!(
        "{}{}",
        &good[..good.len() - 43],
        &revoked[revoked.len() - 43..]
    );
    let short = &good[..good.len() - 1];
    for route in table() {
        for token in [
            None,
            Some(revoked.as_str()),
            Some(&expired),
            Some(&forged),
            Some(short),
            Some(""),
        ] {
            let (status, body) = answer(&api, &route, ours, token).await?;
            ensure!(
                status == 401,
                "{} {}: {status} {body}",
                route.method,
                route.path
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_for_its_scope_and_admin_alone() -> Result<()> {
    let api = Api::create().await?;
    let ours = ours(&api).await?;
    for route in table() {
        for scope in Scope::ALL {
            for team in [None, Some("ours")] {
                let token = api.token(&[scope], team).await?;
                let (status, body) = answer(&api, &route, ours, Some(&token)).await?;
                let told = format!(
                    "{} {} with {scope} of {team:?}: {status} {body}",
                    route.method, route.path
                );
                if !scope.covers(route.scope) || (team.is_some() && route.concerns_all()) {
                    ensure!(status == 403, "{told}");
                } else {
                    ensure!(!matches!(status, 401 | 403 | 405 | 500..), "{told}");
                    // The admin may have ended the pause already.
                    ensure!(
                        status != 404 || route.path.starts_with("/queue/pauses"),
                        "{told}"
                    );
                }
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_team_neither_sees_nor_touches_ours() -> Result<()> {
    let api = Api::create().await?;
    let ours = ours(&api).await?;
    let order = lastgood::catalog::Order::new("test", None);
    let pause = lastgood::catalog::Scope {
        team: Some("ours".to_owned()),
        ..Default::default()
    };
    api.db.catalog.pause(&pause, &order).await?;
    let stranger = api.token(&[Scope::Admin], Some("theirs")).await?;
    let before = api.db.count("select count(*) from lastgood.runs").await?;
    for route in table() {
        let (status, body) = answer(&api, &route, ours, Some(&stranger)).await?;
        let told = format!("{} {}: {status} {body}", route.method, route.path);
        let expected = match route.stranger {
            Stranger::NotFound => 404,
            Stranger::NotAllowed => 403,
            Stranger::NothingOfOurs => 200,
        };
        ensure!(status == expected, "{told}");
        if route.stranger == Stranger::NothingOfOurs {
            ensure!(
                !body.contains("ourshop")
                    && !body.contains("\"ours\"")
                    && !body.contains(&ours.run.to_string()),
                "{told}"
            );
        }
        // Another team's thing and a missing one must get the same answer.
        if route.stranger == Stranger::NotFound
            && route.path.contains("{id}")
            && !route.path.ends_with("/events")
        {
            let absent = if route.path.starts_with("/resources") {
                "no-shop".to_owned()
            } else {
                Uuid::new_v4().to_string()
            };
            let path = route.path.replace("{id}", &absent);
            let nothing = api
                .ask(route.method.clone(), &stranger, &path, route.body.clone())
                .await?;
            let without_id = |text: &str, id: &str| {
                let mut json: Value = serde_json::from_str(text)?;
                json["instance"] = Value::Null;
                Ok::<_, anyhow::Error>(json.to_string().replace(id, "ID"))
            };
            let id = ours.named_by(route.path);
            assert_eq!(without_id(&nothing.body, &absent)?, without_id(&body, &id)?);
        }
    }
    assert_eq!(
        api.db.count("select count(*) from lastgood.runs").await?,
        before
    );
    assert_eq!(
        api.db.catalog.resource("ourshop").await?.status,
        ResourceStatus::Active
    );
    assert_eq!(api.db.catalog.pauses().await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_team_names_no_secret_of_the_consumers() -> Result<()> {
    let api = Api::create().await?;
    ours(&api).await?;
    let token = api.token(&[Scope::Admin], Some("ours")).await?;
    // A reference could name the URL of another team's database.
    let register = json!({ "team": "ours", "tier": "pro", "engine": "postgres", "connection": "env:THEIR_URL" });
    api.ask(Method::PUT, &token, "/resources/new", Some(register))
        .await?
        .with(403)?;
    let change = json!({ "connection": "file:/run/secrets/theirs" });
    api.ask(Method::PATCH, &token, "/resources/ourshop", Some(change))
        .await?
        .with(403)?;
    for into in ["env:THEIR_URL", "file:/run/secrets/theirs"] {
        let restore = json!({ "into": into });
        api.ask(
            Method::POST,
            &token,
            "/resources/ourshop/restores",
            Some(restore),
        )
        .await?
        .with(403)?;
    }
    let restores = "/resources/ourshop/restores";
    for (body, status) in [
        // The database's functions would get access to everything on its server.
        (json!({ "as_superuser": true }), 403),
        (json!({ "into": "template1" }), 422),
        (json!({ "into": "postgres" }), 422),
        (json!({ "into": "empty" }), 202),
    ] {
        api.ask(Method::POST, &token, restores, Some(body))
            .await?
            .with(status)?;
    }
    // The consumer sees the server, and checks that the database is the team's.
    let held = "select count(*) from lastgood.runs where kind = 'restore' and args ->> 'of_owner' = 'true'";
    assert_eq!(api.db.count(held).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_team_leans_on_nothing_of_the_consumers_machine() -> Result<()> {
    let api = Api::create().await?;
    ours(&api).await?;
    let bound = api.token(&[Scope::Admin], Some("ours")).await?;
    let free = api.admin().await?;
    for (n, (engine, url, may)) in [
        (
            "postgres",
            "postgresql://postgres@localhost/x?host=/var/run/postgresql",
            false,
        ),
        (
            "postgres",
            "postgresql://postgres@%2Fvar%2Frun%2Fpostgresql/x",
            false,
        ),
        (
            "postgres",
            "postgresql://postgres@h/x?host=@abstract",
            false,
        ),
        (
            "vector",
            "postgresql://u:p@h/d?sslrootcert=/etc/passwd",
            false,
        ),
        ("postgres", "postgresql://u:p@h/d?sslrootcert=system", true),
        ("mongodb", "mongodb://%2Ftmp%2Fmongodb-27017.sock/d", false),
        (
            "mongodb",
            "mongodb://h/d?tls=true&tlsCertificateKeyFile=/run/keys/key",
            false,
        ),
        (
            "mongodb",
            "mongodb://h/d?tls=true&tlsCAFile=/etc/passwd",
            false,
        ),
        ("mongodb", "mongodb://u:p@h/d?tls=true", true),
        ("redis", "rediss://h?tls-ca-file=/etc/passwd", false),
        ("redis", "rediss://h?tls-server-name=other", true),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/resources/r{n}");
        let body = json!({ "team": "ours", "tier": "pro", "engine": engine, "url": url });
        let answer = api
            .ask(Method::PUT, &bound, &path, Some(body.clone()))
            .await?;
        if may {
            answer.with(201)?;
            continue;
        }
        // A URL that this build's driver does not accept is refused to everyone.
        let of_free = api.ask(Method::PUT, &free, &path, Some(body)).await?;
        ensure!(
            (answer.status == 403 && of_free.status == 201)
                || (answer.status == 422 && of_free.status == 422),
            "{url}: {answer:?} {of_free:?}"
        );
        if engine == "postgres" {
            let change = json!({ "url": url });
            api.ask(Method::PATCH, &bound, "/resources/ourshop", Some(change))
                .await?
                .with(403)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn public_capabilities_are_public_and_nothing_else_is() -> Result<()> {
    let api = Api::with(|settings| settings.has_public_capabilities = true).await?;
    let ours = ours(&api).await?;
    for route in table() {
        let expected = if route.path == "/capabilities" {
            200
        } else {
            401
        };
        let (status, body) = answer(&api, &route, ours, None).await?;
        ensure!(
            status == expected,
            "{} {}: {status} {body}",
            route.method,
            route.path
        );
    }
    Ok(())
}
