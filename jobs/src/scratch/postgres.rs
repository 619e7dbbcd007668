//! PostgreSQL of the dump's own major version, on a socket, with a database whose owner is no superuser.

mod locale;

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use secrecy::SecretString;
use sqlx::PgConnection;
use url::form_urlencoded::byte_serialize;

use super::{
    Drill, Place, Scratch, ScratchSpace, ServerPrograms, bounds,
    error::{NotPossible, StartError},
    home::Home,
    server::{Program, Server, absolute, random_secret, with_path},
};
use crate::{
    engine::{
        address::postgres::Address,
        postgres::{
            names::{identifier, literal},
            properties::Properties,
            session::{self, run},
        },
    },
    error::JobError,
    process::Secrets,
};

pub use self::locale::ReplacedLocale;
pub(super) use self::locale::create_database;

const SUPERUSER: &str = "postgres";
/// The database to restore into, and its owner.
const DRILL: &str = "drill";
const PORT: u16 = 5432;
/// The longest path of a socket that every system accepts, with its final zero.
const SOCKET_BYTES_MAX: usize = 104;
/// Fast and small, and silent about the customer's data. Nothing listens on the network.
const SETTINGS: [&str; 25] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "max_connections=40",
    "max_locks_per_transaction=2048",
    "max_prepared_transactions=0",
    "max_wal_senders=0",
    "wal_level=minimal",
    "max_wal_size=128MB",
    "archive_mode=off",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "autovacuum=off",
    "shared_buffers=64MB",
    "maintenance_work_mem=64MB",
    "max_parallel_maintenance_workers=1",
    "jit=off",
    // A server that crashed has told nothing about the dump.
    "restart_after_crash=off",
    // In files of its own directory, which go with it.
    "dynamic_shared_memory_type=mmap",
    "password_encryption=scram-sha-256",
    "logging_collector=off",
    "log_min_messages=fatal",
    "log_min_error_statement=panic",
    "log_error_verbosity=terse",
    "log_checkpoints=off",
];

/// Starts a server of exactly this major version, with a database of the dump's encoding and locale.
///
/// `properties` are those of the manifest. A locale that this machine does not have is replaced, which changes the order
/// of texts and so no row; [`Scratch::replaced_locale`] tells.
pub async fn start_postgres(
    programs: &ServerPrograms,
    space: &ScratchSpace,
    drill: Drill,
    major: u32,
    properties: &BTreeMap<String, String>,
) -> Result<Scratch, StartError> {
    if space
        .run_as
        .map_or_else(|| rustix::process::geteuid().is_root(), |it| it.uid == 0)
    {
        return Err(NotPossible::AsRoot.into());
    }
    let program = programs.postgres(major)?;
    bounds::check_disk(bounds::POSTGRES, drill.dump_bytes, space)?;
    let home = Home::create(space, drill.run)?;
    let socket = socket_directory(&home, space)?;
    let (of_admin, of_owner) = (random_secret(), random_secret());
    let secrets = Secrets::new([of_admin.clone(), of_owner.clone()]);
    let password_file = home.write("password", &of_admin)?;
    let data = home.make("data")?;
    let mut server = Server::new(home, secrets);
    server
        .run(&initdb(&absolute(&program.initdb), &data, &password_file))
        .await?;
    Home::forget(&password_file)?;
    let name = format!("PostgreSQL {major}");
    server.start(&Program {
        name: &name,
        path: &absolute(&program.server),
        args: arguments(&data, &socket, space),
    })?;
    let url = |user: &str, password: &str, database: &str| -> SecretString {
        let host: String = byte_serialize(socket.as_bytes()).collect();
        // The host is the socket's directory; some parsers want one in its usual place, too.
        format!("postgres://{user}:{password}@localhost/{database}?host={host}&port={PORT}").into()
    };
    let first = Address::parse(&url(SUPERUSER, &of_admin, "postgres")).map_err(JobError::from)?;
    let mut admin = connect(&mut server, &first, &data).await?;
    let replaced_locale = prepare(&mut admin, major, properties, &of_owner).await?;
    let version = session::server_version(&mut admin).await?.text;
    session::close(admin).await;
    if major < 15 {
        // Since 15 it belongs to the database's owner.
        let mut there = session::connect(&first.with_database(DRILL)).await?;
        let own = format!("alter schema public owner to {}", identifier(DRILL));
        run(&mut there, "hand over the schema public", own).await?;
        session::close(there).await;
    }
    Ok(Scratch {
        place: Place::Own(Box::new(server)),
        url: url(DRILL, &of_owner, DRILL),
        admin_url: Some(url(SUPERUSER, &of_admin, DRILL)),
        version: format!("PostgreSQL {version}"),
        replaced_locale,
    })
}

/// Returns where the socket is, if its path can be one: the system limits its length, and URLs and settings separate
/// several by commas.
fn socket_directory(home: &Home, space: &ScratchSpace) -> Result<String, NotPossible> {
    let unusable = |why: &str| NotPossible::Directory {
        dir: space.dir.clone(),
        why: why.to_owned(),
    };
    let inside = home.inside();
    let text = inside
        .to_str()
        .filter(|it| !it.contains([',', '"', '\n', '\r']))
        .ok_or_else(|| {
            unusable("its path has a comma, a quote, a line break or what is not UTF-8")
        })?;
    if text.len() + "/.s.PGSQL.5432.lock".len() >= SOCKET_BYTES_MAX {
        return Err(unusable("its path is too long for a socket in it"));
    }
    Ok(text.to_owned())
}

fn initdb<'a>(path: &'a Path, data: &Path, password_file: &Path) -> Program<'a> {
    let fixed = [
        "--username=postgres",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
        "--no-sync",
    ];
    let mut args: Vec<OsString> = fixed.map(OsString::from).into();
    args.push(with_path("--pgdata=", data));
    args.push(with_path("--pwfile=", password_file));
    Program {
        name: "initdb",
        path,
        args,
    }
}

fn arguments(data: &Path, socket: &str, space: &ScratchSpace) -> Vec<OsString> {
    let mut args = vec!["-D".into(), data.into()];
    let own = [
        format!("port={PORT}"),
        // Quoted, since the value is a list.
        format!("unix_socket_directories=\"{socket}\""),
        format!(
            "temp_file_limit={}kB",
            (space.max_bytes / 1024).min(i32::MAX.unsigned_abs().into())
        ),
    ];
    for setting in SETTINGS.map(str::to_owned).into_iter().chain(own) {
        args.extend(["-c".into(), setting.into()]);
    }
    args
}

/// Waits for the server's own word that it is ready, and then connects.
async fn connect(
    server: &mut Server,
    address: &Address,
    data: &Path,
) -> Result<PgConnection, StartError> {
    let deadline = Server::deadline();
    while !says_ready(data) {
        server.pause(deadline).await?;
    }
    Ok(session::connect(address).await?)
}

/// Returns whether the eighth line of the server's pid file says so.
fn says_ready(data: &Path) -> bool {
    let file = std::fs::read_to_string(data.join("postmaster.pid"));
    file.is_ok_and(|file| file.lines().nth(7).is_some_and(|it| it.trim() == "ready"))
}

/// Makes the role and its database.
async fn prepare(
    admin: &mut PgConnection,
    major: u32,
    properties: &Properties,
    password: &str,
) -> Result<Option<ReplacedLocale>, StartError> {
    let role = format!(
        "create role {} login createdb password {}",
        identifier(DRILL),
        literal(password)
    );
    run(admin, "create the role", role).await?;
    let owner = identifier(DRILL);
    Ok(create_database(admin, major, properties, DRILL, &owner).await?)
}

/// Returns the address behind a URL.
pub(super) fn address(url: &SecretString) -> Result<Address, StartError> {
    Ok(Address::parse(url).map_err(JobError::from)?)
}
