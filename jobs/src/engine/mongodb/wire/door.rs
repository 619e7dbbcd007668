//! Admits the driver and learns where it wants to go: as much of SOCKS5 (RFC 1928, RFC 1929) as the driver speaks.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::engine::tls;

/// The user name that the driver gives.
pub(super) const USER: &str = "lastgood";
/// How long a client at the door may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The suffix of a stand-in's name: a domain that belongs to nobody (RFC 6761).
const OF_SOCKET: &str = ".socket.invalid";

const SOCKS: u8 = 5;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const PASSWORDS: u8 = 1;
const CONNECT: u8 = 1;
const YES: u8 = 0;
const NO: u8 = 1;
const NO_SUCH_COMMAND: u8 = 7;

/// The key to the door: a random password for one client, of which only the hash is kept.
pub(super) struct Key(blake3::Hash);

impl Key {
    /// Draws a random password, and returns it with its key.
    pub(super) fn drawn() -> io::Result<(Self, String)> {
        let mut drawn = [0; 32];
        let random = tls::provider().secure_random;
        let filled = random.fill(&mut drawn);
        filled.map_err(|_| io::Error::other("the system gives no random bytes"))?;
        let password = blake3::Hash::from_bytes(drawn).to_hex().to_string();
        Ok((Self(blake3::hash(password.as_bytes())), password))
    }

    /// Compares hashes, in constant time.
    fn fits(&self, password: &[u8]) -> bool {
        self.0 == blake3::hash(password)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// Where the driver wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Place {
    /// Returns the stand-in for a socket.
    pub(super) fn of_socket(number: usize) -> Self {
        Self {
            host: format!("{number}{OF_SOCKET}"),
            port: 27017,
        }
    }

    /// Returns the number of the socket that it stands for.
    pub(super) fn socket(&self) -> Option<usize> {
        self.host.strip_suffix(OF_SOCKET)?.parse().ok()
    }

    /// Returns its name as people know it.
    pub(super) fn shown(&self, sockets: &[PathBuf]) -> String {
        let socket = self.socket().and_then(|it| sockets.get(it));
        socket.map_or_else(|| self.to_string(), |path| path.display().to_string())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Admits the driver, and returns where it wants to go. Anybody else on this machine is refused and told nothing.
pub(super) async fn admit(driver: &mut TcpStream, key: &Key) -> io::Result<Place> {
    let asked = async {
        greet(driver).await?;
        check(driver, key).await?;
        destination(driver).await
    };
    timeout(PATIENCE, asked).await?
}

/// Tells the driver that its connection is ready.
pub(super) async fn opened(driver: &mut TcpStream) -> io::Result<()> {
    driver.write_all(&reply(YES)).await
}

async fn greet(driver: &mut TcpStream) -> io::Result<()> {
    if driver.read_u8().await? != SOCKS {
        return Err(stranger());
    }
    let count = driver.read_u8().await?;
    if !read(driver, count).await?.contains(&PASSWORD) {
        driver.write_all(&[SOCKS, NO_METHOD]).await?;
        return Err(stranger());
    }
    driver.write_all(&[SOCKS, PASSWORD]).await
}

async fn check(driver: &mut TcpStream, key: &Key) -> io::Result<()> {
    let version = driver.read_u8().await?;
    let length = driver.read_u8().await?;
    let user = read(driver, length).await?;
    let length = driver.read_u8().await?;
    let password = read(driver, length).await?;
    if version == PASSWORDS && user == USER.as_bytes() && key.fits(&password) {
        return driver.write_all(&[PASSWORDS, YES]).await;
    }
    driver.write_all(&[PASSWORDS, NO]).await?;
    Err(stranger())
}

async fn destination(driver: &mut TcpStream) -> io::Result<Place> {
    let mut head = [0; 4];
    driver.read_exact(&mut head).await?;
    let [version, command, _, kind] = head;
    if (version, command) != (SOCKS, CONNECT) {
        driver.write_all(&reply(NO_SUCH_COMMAND)).await?;
        return Err(stranger());
    }
    let host = match kind {
        1 => Ipv4Addr::from_bits(driver.read_u32().await?).to_string(),
        4 => Ipv6Addr::from_bits(driver.read_u128().await?).to_string(),
        3 => {
            let length = driver.read_u8().await?;
            String::from_utf8(read(driver, length).await?).map_err(io::Error::other)?
        }
        _ => return Err(stranger()),
    };
    let port = driver.read_u16().await?;
    Ok(Place { host, port })
}

async fn read(driver: &mut TcpStream, length: u8) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length.into()];
    driver.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Returns a reply to a request; the address in it has no meaning.
fn reply(code: u8) -> [u8; 10] {
    [SOCKS, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

fn stranger() -> io::Error {
    io::Error::from(io::ErrorKind::PermissionDenied)
}
