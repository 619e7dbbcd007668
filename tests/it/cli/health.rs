//! A container's health check tells a ready service from one that is not ready and from one that is not there.

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

use super::process::{Producer, run, run_with};
use crate::database::TestCatalog;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_ready_is_healthy_wherever_it_listens() -> Result<()> {
    let db = TestCatalog::create().await?;
    let producer = Producer::start(&db, "plans.yaml").await?;
    producer
        .shows_where("lastgood_ticks_total{result=\"succeeded\"}", |ticks| {
            ticks >= 1.0
        })
        .await?;
    let (_, port) = producer.address.rsplit_once(':').context("no port")?;
    let of_a_container = format!("0.0.0.0:{port}");
    for said in [
        run(&["health", "--listen", &producer.address]).await?,
        run_with(("LASTGOOD_LISTEN", &of_a_container), &["health"]).await?,
    ] {
        assert_eq!((said.code, said.out.as_str()), (0, "ready\n"), "{said:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_ready_is_unhealthy_in_its_own_words() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let unready = async {
        let (stream, _) = listener.accept().await?;
        let mut stream = BufReader::new(stream);
        let mut asked = String::new();
        while !asked.ends_with("\r\n\r\n") {
            stream.read_line(&mut asked).await?;
        }
        let answer = b"HTTP/1.1 503 Service Unavailable\r\n\r\nthe catalog does not answer\n";
        stream.write_all(answer).await?;
        Ok::<_, anyhow::Error>(asked)
    };
    let asking = ["health", "--listen", &address];
    let (asked, said) = tokio::join!(unready, run(&asking));
    assert!(asked?.starts_with("GET /readyz "));
    let said = said?;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err
            .contains("not ready (503): the catalog does not answer"),
        "{said:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_listens_is_unhealthy_and_says_what_to_do() -> Result<()> {
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let said = run(&["health", "--listen", &format!("127.0.0.1:{port}")]).await?;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("give the right address with --listen"),
        "{said:?}"
    );
    Ok(())
}
