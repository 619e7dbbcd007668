//! What a store holds, without a catalog: whether the object at a manifest's key describes a restore point.

use crate::{
    error::JobError,
    manifest::Manifest,
    sought::Sought,
    storage::{Storage, resource_prefix},
};

/// Reads a manifest, and checks that it is in its place and that its archive is there with the right size.
///
/// Does not read the archive's bytes: see [`crate::verify::verify`]. A restore point that is wrong gives
/// [`JobError::Damaged`], [`JobError::BadManifest`] or [`JobError::NoSuchPoint`]; no other error says anything about
/// the restore point.
pub async fn examine(sought: &Sought<'_>, storage: &Storage) -> Result<Manifest, JobError> {
    let manifest = sought.read(storage).await?;
    belongs(&manifest, sought.manifest_key)?;
    let archive = &manifest.archive;
    crate::archive::is_there(storage, &archive.key, archive.size_bytes).await?;
    Ok(manifest)
}

/// Refuses a manifest that lies in the wrong place, or that points at another resource's archive.
pub(crate) fn belongs(manifest: &Manifest, manifest_key: &str) -> Result<(), JobError> {
    let bad = |why: String| JobError::BadManifest {
        key: manifest_key.to_owned(),
        why,
    };
    let home = resource_prefix(&manifest.team, &manifest.resource_id);
    if !manifest_key.starts_with(&home) {
        return Err(bad(format!("it belongs under {home}, not at this key")));
    }
    if !manifest.archive.key.starts_with(&home) {
        return Err(bad(format!(
            "its archive {:?} is not under {home}",
            manifest.archive.key
        )));
    }
    if manifest.archive.size_bytes == 0 || manifest.dump.size_bytes == 0 {
        return Err(bad(
            "it says that the archive or the dump is empty".to_owned()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::manifest::tests::example;

    #[rstest]
    #[case::at_home("v1/acme/db-1/2026/03/04/x.manifest.json", None)]
    #[case::of_another_team("v1/evil/db-1/2026/03/04/x.manifest.json", Some("not at this key"))]
    #[case::of_a_longer_name("v1/acme/db-10/2026/03/04/x.manifest.json", Some("not at this key"))]
    fn a_manifest_belongs_under_its_own_resource(#[case] key: &str, #[case] refused: Option<&str>) {
        let told = belongs(&example(), key)
            .err()
            .map(|error| error.to_string());
        match refused {
            None => assert_eq!(told, None),
            Some(why) => assert!(
                told.clone().is_some_and(|told| told.contains(why)),
                "{told:?}"
            ),
        }
    }

    #[test]
    fn a_manifest_may_not_point_at_another_resources_archive() {
        let mut manifest = example();
        manifest.archive.key = "v1/rich/db-2/2026/03/04/050607Z-x-e2.pgdump.zst"
            .parse()
            .unwrap();
        let refused = belongs(&manifest, "v1/acme/db-1/2026/03/04/x.manifest.json");
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("is not under v1/acme/db-1/"), "{told}");
    }
}
