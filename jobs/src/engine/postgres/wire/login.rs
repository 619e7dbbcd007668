//! Logs in: from the startup message to the message that says that the server is ready for statements.

use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256},
    },
    message::frontend,
};
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncWriteExt as _, BufReader};

use super::{
    Carrier, NoSession, broken,
    frame::{Frame, NoFrame},
    odd,
};
use crate::engine::address::postgres::{APPLICATION, Address, Binding};

/// The most that a server may send before the first statement.
const TOLD_BYTES_MAX: usize = 1024 * 1024;

/// A connection that is ready for statements.
pub(super) struct Open {
    pub(super) stream: BufReader<Box<dyn Carrier>>,
    /// What the server sent during the login, which the driver has yet to see.
    pub(super) told: Vec<u8>,
    pub(super) process: u32,
}

/// Logs in. `certificate` is the hash that binds a password to the server's certificate, if there is TLS and the
/// certificate has one.
pub(super) async fn login(
    stream: Box<dyn Carrier>,
    certificate: Option<Vec<u8>>,
    address: &Address,
    options: Option<&str>,
) -> Result<Open, NoSession> {
    let mut talk = Talk {
        stream: BufReader::new(stream),
        address,
        certificate,
    };
    talk.introduce(options).await?;
    talk.authenticate().await?;
    talk.listen().await
}

struct Talk<'a> {
    stream: BufReader<Box<dyn Carrier>>,
    address: &'a Address,
    certificate: Option<Vec<u8>>,
}

impl Talk<'_> {
    /// Sends the startup message. It is complete: nothing comes from the worker's environment.
    async fn introduce(&mut self, options: Option<&str>) -> Result<(), NoSession> {
        let always = [
            ("user", self.address.user()),
            ("database", self.address.database()),
            ("application_name", APPLICATION),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, MDY"),
            ("TimeZone", "UTC"),
        ];
        let settings = options.map(|options| ("options", options));
        self.send(|buffer| frontend::startup_message(always.into_iter().chain(settings), buffer))
            .await
    }

    async fn authenticate(&mut self) -> Result<(), NoSession> {
        loop {
            let asked = self.next().await?;
            let (b'R', Some((method, rest))) = (asked.kind(), asked.number()) else {
                return Err(odd(
                    "the server neither asks for a password nor accepts the login",
                ));
            };
            match method {
                0 => return self.check_binding(),
                3 => {
                    self.check_binding()?;
                    let password = self.password().to_owned();
                    self.send(|buffer| frontend::password_message(&password, buffer))
                        .await?;
                }
                5 => {
                    self.check_binding()?;
                    let salt = *rest.first_chunk().ok_or_else(|| odd(ODD_PASSWORD))?;
                    let hash = md5_hash(self.address.user().as_bytes(), self.password(), salt);
                    self.send(|buffer| frontend::password_message(hash.as_bytes(), buffer))
                        .await?;
                }
                10 => {
                    let offered = rest.to_vec();
                    return self.scram(&offered).await;
                }
                other => {
                    return Err(NoSession::Impossible(format!(
                        "the server asks for an authentication method that is not supported (number {other}): let the role \
                         use scram-sha-256, md5, password, trust or peer in pg_hba.conf"
                    )));
                }
            }
        }
    }

    /// Authenticates by SCRAM, bound to the server's certificate if both sides can.
    async fn scram(&mut self, offered: &[u8]) -> Result<(), NoSession> {
        let offers = |name: &str| {
            offered
                .split(|byte| *byte == 0)
                .any(|it| it == name.as_bytes())
        };
        let certificate = match self.address.binding() {
            Binding::Disable => None,
            Binding::Prefer | Binding::Require => self.certificate.clone(),
        };
        let (mechanism, binding) = match certificate {
            Some(hash) if offers(SCRAM_SHA_256_PLUS) => (
                SCRAM_SHA_256_PLUS,
                ChannelBinding::tls_server_end_point(hash),
            ),
            certificate => {
                self.check_binding()?;
                if !offers(SCRAM_SHA_256) {
                    return Err(odd(
                        "the server offers no SCRAM mechanism that lastgood supports",
                    ));
                }
                let binding = match certificate {
                    Some(_) => ChannelBinding::unrequested(),
                    None => ChannelBinding::unsupported(),
                };
                (SCRAM_SHA_256, binding)
            }
        };
        let mut scram = ScramSha256::new(self.password(), binding);
        self.send(|buffer| frontend::sasl_initial_response(mechanism, scram.message(), buffer))
            .await?;
        let challenge = self.next().await?;
        let challenge = told(&challenge, 11)?.to_vec();
        // Computes thousands of hashes: as many as the server asks for, up to a bound.
        let answered = tokio::task::spawn_blocking(move || {
            scram.update(&challenge)?;
            Ok::<_, std::io::Error>(scram)
        });
        let answered = answered.await.map_err(|_| odd(ODD_PASSWORD))?;
        let mut scram = answered.map_err(|_| odd(ODD_PASSWORD))?;
        self.send(|buffer| frontend::sasl_response(scram.message(), buffer))
            .await?;
        let proof = self.next().await?;
        let proven = scram.finish(told(&proof, 12)?);
        proven.map_err(|_| odd("the server did not prove that it knows the password"))?;
        let end = self.next().await?;
        told(&end, 0).map(|_| ())
    }

    /// Fails if the URL demands channel binding. Called where there is none.
    fn check_binding(&self) -> Result<(), NoSession> {
        match self.address.binding() {
            Binding::Disable | Binding::Prefer => Ok(()),
            Binding::Require => Err(NoSession::Impossible(
                "its channel_binding=require demands a password that is bound to the server's certificate, but the server \
                 or its certificate does not support that: let the role use scram-sha-256 over TLS, or remove the \
                 parameter"
                    .to_owned(),
            )),
        }
    }

    /// Waits until the server is ready for statements, and keeps what it sends before that.
    async fn listen(mut self) -> Result<Open, NoSession> {
        let mut all = Vec::new();
        let mut process = 0;
        loop {
            let frame = self.next().await?;
            all.extend_from_slice(frame.bytes());
            if all.len() > TOLD_BYTES_MAX {
                return Err(odd("the server's messages about its settings do not end"));
            }
            match frame.kind() {
                b'K' => process = frame.number().map_or(0, |(process, _)| process),
                b'Z' => break,
                b'S' | b'N' => {}
                _ => return Err(odd("the server sent an answer before any statement")),
            }
        }
        Ok(Open {
            stream: self.stream,
            told: all,
            process,
        })
    }

    /// Reads the next message. An error message becomes an error.
    async fn next(&mut self) -> Result<Frame, NoSession> {
        match Frame::read(&mut self.stream).await {
            Ok(frame) if frame.kind() == b'E' => Err(NoSession::Refused(frame.fault())),
            Ok(frame) => Ok(frame),
            Err(NoFrame::TooLong(what)) => Err(odd(what.to_string())),
            Err(NoFrame::Io(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(odd("the server closed the connection"))
            }
            Err(NoFrame::Io(error)) => Err(broken(&error)),
        }
    }

    async fn send(
        &mut self,
        write: impl FnOnce(&mut bytes::BytesMut) -> std::io::Result<()>,
    ) -> Result<(), NoSession> {
        let mut buffer = bytes::BytesMut::new();
        // No message can carry this user or password; the error may quote it.
        write(&mut buffer).map_err(|_| odd("a part of the URL cannot be sent"))?;
        let sent = async {
            self.stream.write_all(&buffer).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| broken(&error))
    }

    fn password(&self) -> &[u8] {
        let password = self.address.password();
        password.map_or(b"", |password| password.expose_secret().as_bytes())
    }
}

const ODD_PASSWORD: &str = "the server's request for the password is malformed";

/// Returns the contents of an authentication message with this number.
fn told(frame: &Frame, number: u32) -> Result<&[u8], NoSession> {
    match (frame.kind(), frame.number()) {
        (b'R', Some((found, rest))) if found == number => Ok(rest),
        _ => Err(odd(ODD_PASSWORD)),
    }
}
