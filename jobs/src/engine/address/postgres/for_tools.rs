//! Passes an address to `pg_dump` and `pg_restore`: in their environment and a password file, never in argv.

use std::{ffi::OsString, io::Write as _, path::Path};

use secrecy::ExposeSecret as _;
use tempfile::NamedTempFile;

use super::{APPLICATION, Address, Binding, Host, Place, SYSTEM, SslMode};
use crate::process::Secrets;

/// A path under `/dev/null`, where no file can exist. A tool that is pointed here finds nothing, and does not look in
/// the worker's home directory.
const NO_FILE: &str = "/dev/null/none";

impl Address {
    /// Writes the file that tells a tool the password. The file is removed when dropped.
    pub(crate) fn password_file(&self, directory: &Path) -> std::io::Result<NamedTempFile> {
        // Created with mode 0600: libpq ignores a password file that others can read.
        let mut file = tempfile::Builder::new()
            .prefix("pgpass.")
            .tempfile_in(directory)?;
        if let Some(password) = &self.password {
            let plain = password.plain.expose_secret();
            let escaped = plain.replace('\\', "\\\\").replace(':', "\\:");
            file.write_all(format!("*:*:*:*:{escaped}\n").as_bytes())?;
        }
        file.flush()?;
        Ok(file)
    }

    /// Returns the whole environment of a tool. Everybody on the machine could read argv.
    pub(crate) fn environment(
        &self,
        password_file: &Path,
        tool_major: u32,
    ) -> Vec<(&'static str, OsString)> {
        let list = |one: fn(&Place) -> String| -> OsString {
            let all: Vec<String> = self.places.iter().map(one).collect();
            all.join(",").into()
        };
        let host = list(|place| match &place.host {
            Host::Name(name) => name.clone(),
            Host::Socket(directory) => directory.display().to_string(),
        });
        let mut environment = vec![
            ("PGHOST", host),
            ("PGPORT", list(|place| place.port.to_string())),
            ("PGUSER", (&self.user).into()),
            ("PGDATABASE", (&self.database).into()),
            ("PGSSLMODE", self.ssl_mode.as_str().into()),
            ("PGPASSFILE", password_file.into()),
            (
                "PGCONNECT_TIMEOUT",
                self.connect_timeout.as_secs().to_string().into(),
            ),
            ("PGAPPNAME", APPLICATION.into()),
            // A customer's server must get nothing from the home directory of the worker's user, nor its Kerberos
            // ticket.
            ("PGSSLCERT", NO_FILE.into()),
            ("PGSSLKEY", NO_FILE.into()),
            ("PGSERVICEFILE", NO_FILE.into()),
            ("PGGSSENCMODE", "disable".into()),
        ];
        if self.places.len() > 1 {
            // Only a restore still has several places here: a backup has chosen one by now.
            environment.push(("PGTARGETSESSIONATTRS", "read-write".into()));
        }
        match &self.ssl_root_cert {
            Some(cert) => environment.push(("PGSSLROOTCERT", cert.into())),
            // As our own connections do. libpq knows the word since version 16.
            None if self.ssl_mode == SslMode::VerifyFull => {
                if tool_major >= 16 {
                    environment.push(("PGSSLROOTCERT", SYSTEM.into()));
                }
            }
            // Otherwise libpq would find a root.crt in the home directory of the worker's user, and check what the URL
            // does not ask for.
            None => environment.push(("PGSSLROOTCERT", NO_FILE.into())),
        }
        match self.binding {
            Binding::Prefer => {}
            Binding::Disable | Binding::Require => {
                environment.push(("PGCHANNELBINDING", self.binding.as_str().into()));
            }
        }
        environment
    }

    /// Returns the strings to scrub from a tool's output.
    pub(crate) fn secrets(&self) -> Secrets {
        Secrets::new(self.password.iter().flat_map(|password| {
            let plain = password.plain.expose_secret();
            [
                plain.to_owned(),
                password.encoded.expose_secret().to_owned(),
                url::form_urlencoded::byte_serialize(plain.as_bytes()).collect(),
            ]
        }))
    }
}
