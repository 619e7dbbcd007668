//! Connections to a MongoDB server with and without TLS, and the errors when the two ends do not agree.

use std::{io::Write as _, path::PathBuf};

use anyhow::Result;
use bson::doc;
use lastgood_jobs::error::ErrorKind;

use super::lab::{Lab, Private};
use crate::{lab::attempt, subject::backup};

/// The certificate files, if there are any.
struct Certificates(PathBuf);

impl Certificates {
    fn found() -> Result<Option<Self>> {
        let folder = crate::lab::variable("LASTGOOD_TEST_TLS_DIR")?;
        if folder.starts_with("skip: ") {
            writeln!(std::io::stderr(), "SKIPPED: MongoDB over TLS: {folder}")?;
            return Ok(None);
        }
        Ok(Some(Self(folder.into())))
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Starts a server that accepts connections with and without TLS.
    async fn server(&self, more: &[&str]) -> Result<Private> {
        let (pem, authority) = (self.file("server-and-key.pem"), self.file("ca.pem"));
        let args = [
            "--tlsMode",
            "preferTLS",
            "--tlsCertificateKeyFile",
            &pem,
            "--tlsCAFile",
            &authority,
        ];
        Private::with_args(&[&args, more].concat()).await
    }
}

async fn filled(server: &Private) -> Result<Lab> {
    let lab = Lab::private(server).await?;
    lab.insert("a", &[doc! {"_id": 1}]).await?;
    Ok(lab)
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_final_and_one_that_is_serves() -> Result<()> {
    let Some(certificates) = Certificates::found()? else {
        return Ok(());
    };
    let server = certificates
        .server(&["--tlsAllowConnectionsWithoutCertificates"])
        .await?;
    let lab = filled(&server).await?;
    let mut resource = lab.resource.clone();
    resource.url = server
        .url("shop?tls=true&serverSelectionTimeoutMS=3000")
        .into();
    let error = lab.fails(&resource, ErrorKind::Config, true).await?;
    assert!(
        error.report().contains("UnknownIssuer"),
        "{}",
        error.report()
    );
    assert!(error.report().contains("tlsCAFile"), "{}", error.report());
    let authority = certificates.file("ca.pem");
    for options in [
        format!("tlsCAFile={authority}"),
        "tlsAllowInvalidCertificates=true".to_owned(),
    ] {
        resource.url = server.url(&format!("shop?tls=true&{options}")).into();
        backup(attempt(), &resource, None, &lab.worker).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_of_ours_gets_the_one_in_the_url() -> Result<()> {
    let Some(certificates) = Certificates::found()? else {
        return Ok(());
    };
    let server = certificates.server(&[]).await?;
    let lab = filled(&server).await?;
    let mut resource = lab.resource.clone();
    let options = format!(
        "tls=true&serverSelectionTimeoutMS=3000&tlsCAFile={}",
        certificates.file("ca.pem")
    );
    resource.url = server.url(&format!("shop?{options}")).into();
    let error = lab.fails(&resource, ErrorKind::Connect, false).await?;
    assert!(error.report().contains("certificate"), "{}", error.report());
    let ours = certificates.file("server-and-key.pem");
    resource.url = server
        .url(&format!("shop?{options}&tlsCertificateKeyFile={ours}"))
        .into();
    backup(attempt(), &resource, None, &lab.worker).await?;
    Ok(())
}

#[tokio::test]
async fn files_that_cannot_be_used_are_final_and_named_by_their_option() -> Result<()> {
    let Some(certificates) = Certificates::found()? else {
        return Ok(());
    };
    let server = certificates
        .server(&["--tlsAllowConnectionsWithoutCertificates"])
        .await?;
    let lab = filled(&server).await?;
    let mut resource = lab.resource.clone();
    let (authority, key) = (certificates.file("ca.pem"), certificates.file("server.key"));
    for (options, told) in [
        ("tlsCAFile=/nowhere/ca.pem".to_owned(), "tlsCAFile"),
        (
            format!("tlsCAFile={key}"),
            "tlsCAFile cannot be used: it holds no certificate",
        ),
        (
            format!("tlsCAFile={authority}&tlsCertificateKeyFile={authority}"),
            "tlsCertificateKeyFile",
        ),
    ] {
        resource.url = server.url(&format!("shop?tls=true&{options}")).into();
        let error = lab.fails(&resource, ErrorKind::Config, true).await?;
        assert!(error.report().contains(told), "{}", error.report());
    }
    Ok(())
}

#[tokio::test]
async fn two_ends_that_do_not_agree_on_tls_are_told_what_to_look_at() -> Result<()> {
    let plain = Private::start().await?;
    let lab = filled(&plain).await?;
    let mut resource = lab.resource.clone();
    resource.url = plain
        .url("shop?tls=true&serverSelectionTimeoutMS=2000")
        .into();
    let error = lab.fails(&resource, ErrorKind::Connect, false).await?;
    assert!(
        error.report().contains("the TLS handshake failed"),
        "{}",
        error.report()
    );
    let Some(certificates) = Certificates::found()? else {
        return Ok(());
    };
    let server = certificates
        .server(&["--tlsAllowConnectionsWithoutCertificates"])
        .await?;
    let only_tls = doc! {"setParameter": 1, "tlsMode": "requireTLS"};
    let other = Lab::private(&server).await?;
    other.client.database("admin").run_command(only_tls).await?;
    resource.url = server.url("shop?serverSelectionTimeoutMS=2000").into();
    let error = lab.fails(&resource, ErrorKind::Connect, false).await?;
    assert!(error.report().contains("tls=true"), "{}", error.report());
    Ok(())
}

/// Servers compress if the driver offers it. lastgood's never does, whatever the URL says.
#[tokio::test]
async fn a_url_that_asks_for_compression_is_backed_up_without_it() -> Result<()> {
    let server = Private::start().await?;
    let lab = filled(&server).await?;
    let mut resource = lab.resource.clone();
    resource.url = server
        .url("shop?compressors=snappy,zlib,zstd&zlibCompressionLevel=9")
        .into();
    backup(attempt(), &resource, None, &lab.worker).await?;
    let status = lab
        .client
        .database("admin")
        .run_command(doc! {"serverStatus": 1})
        .await?;
    let zlib = status
        .get_document("network")?
        .get_document("compression")?
        .get_document("zlib")?;
    let compressed = zlib.get_document("compressor")?;
    assert_eq!(
        compressed
            .get_i64("bytesIn")
            .or_else(|_| compressed.get_i32("bytesIn").map(i64::from))?,
        0
    );
    Ok(())
}
