//! Redis or Valkey that reads the dump's version of the format. Everything is in memory, and nothing is saved.

use std::ffi::OsString;

use super::{
    Drill, Place, Scratch, ScratchSpace, ServerPrograms, bounds,
    error::StartError,
    home::Home,
    programs::Flavour,
    server::{Program, Server, absolute, free_port, random_secret},
};
use crate::{
    engine::{
        address::redis::Address,
        redis::{connection::Connection, info},
    },
    error::JobError,
    process::Secrets,
};

/// How often another port is tried if somebody else was faster.
const TRIES: usize = 5;
/// More than servers are configured with: a database that does not exist here could not be restored.
const DATABASES: u32 = 1024;

/// Starts the oldest server that reads RDB files of this version, of the same flavour if this machine has one.
///
/// It expires keys as any server does. The largest that it can become is the space's limit, or the memory that is free
/// now; a restore that needs more fails with `OOM`.
pub async fn start_redis(
    programs: &ServerPrograms,
    space: &ScratchSpace,
    drill: Drill,
    flavour: Flavour,
    rdb_version: u32,
) -> Result<Scratch, StartError> {
    let (_, _, path) = programs.redis(flavour, rdb_version)?;
    let max_memory = bounds::check_memory(bounds::REDIS, drill.dump_bytes, space)?;
    let home = Home::create(space, drill.run)?;
    let password = random_secret();
    let mut server = Server::new(home, Secrets::new([password.clone()]));
    let mut tries = 0;
    let port = loop {
        let port = free_port()?;
        let name = format!("redis-{port}.conf");
        let settings = settings(port, &password, max_memory);
        let configuration = server.home()?.write(&name, &settings)?;
        server.start(&Program {
            name: &flavour.to_string(),
            path: &absolute(path),
            args: vec![OsString::from(configuration)],
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
    let url = format!("redis://:{password}@127.0.0.1:{port}").into();
    let address = Address::parse(&url).map_err(JobError::from)?;
    let mut connection = Connection::open(&address).await?;
    let version = info::must_ask(&mut connection).await?.version;
    Ok(Scratch {
        place: Place::Own(Box::new(server)),
        url,
        admin_url: None,
        version,
        replaced_locale: None,
    })
}

/// Returns the configuration, which holds the password: a file that nobody else can read.
fn settings(port: u16, password: &str, max_memory: u64) -> String {
    let lines = [
        "bind 127.0.0.1".to_owned(),
        format!("port {port}"),
        format!("requirepass {password}"),
        format!("maxmemory {max_memory}"),
        format!("databases {DATABASES}"),
        "maxmemory-policy noeviction".to_owned(),
        "save \"\"".to_owned(),
        "appendonly no".to_owned(),
        "daemonize no".to_owned(),
        "repl-diskless-sync yes".to_owned(),
        "repl-diskless-sync-delay 0".to_owned(),
        "slowlog-max-len 0".to_owned(),
        "loglevel notice".to_owned(),
        "logfile \"\"".to_owned(),
        "protected-mode yes".to_owned(),
        String::new(),
    ];
    lines.join("\n")
}

/// Waits for the server's own word that it listens: until then somebody else might on the same port.
async fn listening(server: &mut Server) -> Result<(), StartError> {
    let deadline = Server::deadline();
    while !server
        .home()?
        .log_tail()
        .contains("eady to accept connections")
    {
        server.pause(deadline).await?;
    }
    Ok(())
}
