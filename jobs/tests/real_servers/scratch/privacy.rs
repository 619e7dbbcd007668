//! Nobody else gets into a scratch server, and nothing of a worker gets out to it.

use std::os::unix::fs::MetadataExt as _;

use anyhow::{Result, ensure};
use lastgood_jobs::scratch::{self, ScratchSpace};
use rstest::rstest;

use super::lab::{Kind, Place, drill, passwords, programs, start};

#[rstest]
#[case::postgres(Kind::Postgres)]
#[case::mongodb(Kind::Mongodb)]
#[case::redis(Kind::Redis)]
#[case::valkey(Kind::Valkey)]
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_an_argument_and_no_environment_in_a_server(
    #[case] kind: Kind,
) -> Result<()> {
    let place = Place::new()?;
    let server = start(kind, &place.space).await?;
    let passwords = passwords(&server)?;
    let processes = place.processes()?;
    ensure!(!processes.is_empty());
    for pid in processes {
        let read = |name| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let (argv, environ) = (read("cmdline"), read("environ"));
        let (argv, environ) = (
            String::from_utf8_lossy(&argv),
            String::from_utf8_lossy(&environ),
        );
        for text in [&argv, &environ] {
            ensure!(
                !passwords.iter().any(|it| text.contains(it)),
                "a password is seen in {text}"
            );
        }
        // Set for every test.
        ensure!(
            !environ.contains("LASTGOOD_TEST"),
            "our environment reached it: {environ}"
        );
        ensure!(
            !environ.contains("PATH=") && !environ.contains("HOME="),
            "{environ}"
        );
    }
    server.stop().await?;
    Ok(())
}

#[rstest]
#[case::postgres(Kind::Postgres)]
#[case::mongodb(Kind::Mongodb)]
#[case::redis(Kind::Redis)]
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_may_look_into_the_files(#[case] kind: Kind) -> Result<()> {
    let place = Place::new()?;
    let server = start(kind, &place.space).await?;
    for drill in std::fs::read_dir(&place.space.dir)? {
        let drill = drill?;
        ensure!(
            drill.metadata()?.mode() & 0o066 == 0,
            "others may list {:?}",
            drill.path()
        );
        for entry in std::fs::read_dir(drill.path())? {
            let entry = entry?;
            let mode = entry.metadata()?.mode() & 0o777;
            ensure!(
                mode & 0o077 == 0,
                "others may open {:?}: {mode:o}",
                entry.path()
            );
        }
    }
    server.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_listens_on_no_port() -> Result<()> {
    let place = Place::new()?;
    let server = start(Kind::Postgres, &place.space).await?;
    let url = secrecy::ExposeSecret::expose_secret(server.url()).to_owned();
    let tcp = url
        .split_once('@')
        .map(|(who, _)| format!("{who}@127.0.0.1:5432/drill?connect_timeout=2"));
    let refused = <sqlx::PgConnection as sqlx::Connection>::connect(&tcp.unwrap_or_default()).await;
    ensure!(refused.is_err());
    server.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn root_is_told_that_postgres_needs_another_user() -> Result<()> {
    let place = Place::new()?;
    if place.space.run_as.is_none() {
        // Not as root, so there is nothing to refuse.
        return Ok(());
    }
    let space = ScratchSpace {
        run_as: None,
        ..place.space.clone()
    };
    let found = programs().await?;
    let refused = scratch::start_postgres(&found, &space, drill(1), 18, &[].into())
        .await
        .err();
    let text = refused.map(|it| it.to_string()).unwrap_or_default();
    ensure!(text.contains("--drill-user"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_others_may_write_to_or_that_is_too_deep_is_refused() -> Result<()> {
    let place = Place::new()?;
    std::fs::create_dir(&place.space.dir)?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&place.space.dir, open)?;
    let deep = Place::new()?;
    let space = ScratchSpace {
        dir: deep.space.dir.join("d".repeat(80)),
        ..deep.space.clone()
    };
    for (space, says) in [(&place.space, "others may write"), (&space, "too long")] {
        let refused = start(Kind::Postgres, space).await.err();
        let text = refused.map(|it| it.to_string()).unwrap_or_default();
        ensure!(
            text.contains(says) && text.contains("--drill-dir"),
            "{text}"
        );
    }
    Ok(())
}
