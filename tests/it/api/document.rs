//! The OpenAPI document is a promise, and needs no network to be read.

use anyhow::{Context as _, Result, ensure};
use axum::{body::Body, http::Request};

use super::lab::Api;

#[test]
fn the_document_is_permanent() {
    insta::assert_json_snapshot!("openapi", lastgood::api::document());
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "the names are in the page, and the page is ours"
)]
async fn the_page_of_the_documentation_needs_no_other_host() -> Result<()> {
    let api = Api::create().await?;
    let get = async |path: &str| {
        api.send(Request::builder().uri(path).body(Body::empty())?)
            .await
    };
    let document = get("/api/v1/openapi.json").await?.with(200)?;
    assert_eq!(document, serde_json::to_value(lastgood::api::document())?);
    let page = get("/api/docs/").await?;
    ensure!(page.status == 200, "{page:?}");
    let policy = page
        .headers
        .get("content-security-policy")
        .context("no policy")?
        .to_str()?;
    ensure!(policy.starts_with("default-src 'self'"), "{policy}");
    for part in page
        .body
        .split(['"', '\''])
        .filter(|text| text.ends_with(".js") || text.ends_with(".css"))
    {
        ensure!(!part.contains("//"), "{part}");
        let part = get(&format!("/api/docs/{}", part.trim_start_matches("./"))).await?;
        ensure!(part.status == 200, "{part:?}");
    }
    Ok(())
}
