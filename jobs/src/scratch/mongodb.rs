//! MongoDB of the dump's own series or a newer one: a replica set of one member, so that it has snapshots.

use std::{ffi::OsString, path::Path, time::Instant};

use bson::doc;
use mongodb::{Client, options::ClientOptions};

use super::{
    Drill, Place, Scratch, ScratchSpace, ServerPrograms, bounds,
    error::StartError,
    home::Home,
    programs::Version,
    server::{Program, Server, absolute, free_port, random_secret, with_path},
};
use crate::{engine::mongodb::session::answer, process::Secrets};

const USER: &str = "drill";
const REPLICA_SET: &str = "drill";
/// How often another port is tried if somebody else was faster.
const TRIES: usize = 5;

/// Small, and without what writes or deletes in the background: an expired document must still be there to be compared.
const SETTINGS: [&str; 19] = [
    "--bind_ip",
    "127.0.0.1",
    "--nounixsocket",
    "--replSet",
    REPLICA_SET,
    "--wiredTigerCacheSizeGB",
    "0.25",
    "--oplogSize",
    "256",
    // Queries that are logged as slow would show the customer's data.
    "--slowms",
    "2147483647",
    "--setParameter",
    "ttlMonitorEnabled=false",
    "--setParameter",
    "diagnosticDataCollectionEnabled=false",
    // Nobody may make the first user but who has the key.
    "--setParameter",
    "enableLocalhostAuthBypass=false",
    "--setParameter",
    "authenticationMechanisms=SCRAM-SHA-256,SCRAM-SHA-1",
];

/// Starts a server of the wanted version's series, or else of the next newer series, with a user who may do everything.
pub async fn start_mongodb(
    programs: &ServerPrograms,
    space: &ScratchSpace,
    drill: Drill,
    wanted: Version,
) -> Result<Scratch, StartError> {
    let (version, path) = programs.mongodb(wanted)?;
    bounds::check_disk(bounds::MONGODB, drill.dump_bytes, space)?;
    let home = Home::create(space, drill.run)?;
    let (key, password) = (random_secret(), random_secret());
    let secrets = Secrets::new([key.clone(), password.clone()]);
    let key_file = home.write("key", &key)?;
    let data = home.make("data")?;
    let mut server = Server::new(home, secrets);
    let name = format!("MongoDB {version}");
    let mut tries = 0;
    let port = loop {
        let port = free_port()?;
        server.start(&Program {
            name: &name,
            path: &absolute(path),
            args: arguments(port, &data, &key_file),
        })?;
        match listening(&mut server).await {
            Ok(()) => break port,
            Err(StartError::Ended { log, .. })
                if tries < TRIES && log.contains("already in use") =>
            {
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    };
    make_user(&mut server, port, &key, &password).await?;
    let url = format!("mongodb://{USER}:{password}@127.0.0.1:{port}/?authSource=admin");
    Ok(Scratch {
        place: Place::Own(Box::new(server)),
        url: url.into(),
        admin_url: None,
        version: name,
        replaced_locale: None,
    })
}

fn arguments(port: u16, data: &Path, key_file: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> = SETTINGS.map(OsString::from).into();
    args.extend(["--port".into(), port.to_string().into()]);
    args.push(with_path("--dbpath=", data));
    args.push(with_path("--keyFile=", key_file));
    args
}

/// Waits for the server's own word that it listens: until then somebody else might on the same port.
async fn listening(server: &mut Server) -> Result<(), StartError> {
    let deadline = Server::deadline();
    while !server
        .home()?
        .log_tail()
        .to_lowercase()
        .contains("waiting for connections")
    {
        server.pause(deadline).await?;
    }
    Ok(())
}

/// Makes the server the primary of its replica set, and then the user. The key of the replica set's members lets us in.
async fn make_user(
    server: &mut Server,
    port: u16,
    key: &str,
    password: &str,
) -> Result<(), StartError> {
    let url = format!(
        "mongodb://__system:{key}@127.0.0.1:{port}/?authSource=local&authMechanism=SCRAM-SHA-256&directConnection=true"
    );
    let doing = "set up the drill's server";
    let options = answer(doing, ClientOptions::parse(url)).await?;
    let client = answer(doing, async { Client::with_options(options) }).await?;
    let admin = client.database("admin");
    let members = [doc! {"_id": 0, "host": format!("127.0.0.1:{port}")}];
    let initiate = doc! {"replSetInitiate": {"_id": REPLICA_SET, "members": members.as_slice()}};
    answer(doing, admin.run_command(initiate)).await?;
    let deadline: Instant = Server::deadline();
    loop {
        let hello = answer(doing, admin.run_command(doc! {"hello": 1})).await?;
        if hello.get_bool("isWritablePrimary").unwrap_or(false) {
            break;
        }
        server.pause(deadline).await?;
    }
    let create = doc! {"createUser": USER, "pwd": password, "roles": ["root"]};
    answer(doing, admin.run_command(create)).await?;
    client.shutdown().await;
    Ok(())
}
