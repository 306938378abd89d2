//! A layout as a repository: documents by tag or digest, tags, and referrers.
//!
//! A layout has no API for referrers: they are entries of `index.json` whose manifests name their subject, or
//! entries of the image index in the tag that stands in for that API ("Referrers Tag Schema").

use super::{Layout, REF_NAME, find, name_of};
use crate::digest::Digest;
use crate::json;
use crate::oci::{Descriptor, ImageIndex, MAX_MANIFEST_BYTES};
use crate::source::referrers_tag::referrers_tag;
use crate::source::{Error, Named, RawDocument, Repository, Source, Tags};

/// What matters of the manifest of an artifact.
#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Artifact {
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
}

impl Layout {
    /// The entries of `index.json` that are understood.
    fn entries(&self) -> Result<Vec<Descriptor>, Error> {
        Ok(self.index()?.entries.usable().cloned().collect())
    }

    /// An entry with its type, if it says of itself that it is about `subject` and of this type.
    fn referrer(
        &self,
        entry: &Descriptor,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Option<Descriptor> {
        if entry.size > MAX_MANIFEST_BYTES {
            return None;
        }
        let document = self.document(entry).ok()?;
        let artifact = json::from_slice::<Artifact>(&document.bytes).unwrap_or_default();
        let config = artifact.config.map(|config| config.media_type);
        let own = artifact.artifact_type.filter(|own| !own.is_empty()).or(config);
        let is_about = artifact.subject.is_some_and(|of| of.digest == *subject);
        let is_of_type = artifact_type.is_none_or(|wanted| own.as_deref() == Some(wanted));
        (is_about && is_of_type).then(|| Descriptor { artifact_type: own, ..entry.clone() })
    }
}

impl Repository for Layout {
    fn named(&self, name: Named<'_>) -> Result<RawDocument, Error> {
        let wanted = match name {
            Named::Tag(tag) => tag.to_owned(),
            Named::Digest(digest) => digest.to_string(),
        };
        let entries = self.entries()?;
        if let Some(found) = find(entries.iter().collect(), &wanted).first() {
            return self.document(found);
        }
        if let Named::Digest(digest) = name
            && let Some(found) = self.unlisted(*digest)?
        {
            return self.document(&found);
        }
        let what = format!("manifest `{wanted}`");
        Err(Error::Missing { path: self.files.path().to_owned(), what })
    }

    fn tags(&self) -> Result<Tags, Error> {
        let entries = self.entries()?;
        let names = entries.iter().filter_map(|entry| {
            let name = entry.annotations.get(REF_NAME).map(String::as_str);
            Some(name.or_else(|| name_of(entry))?.to_owned())
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        // Several with platforms are one image.
        names.dedup();
        Ok(Tags { names, cut: None })
    }

    fn describe_tag(&self, tag: &str) -> Result<Option<Descriptor>, Error> {
        Ok(find(self.entries()?.iter().collect(), tag).into_iter().next())
    }

    fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        let entries = self.entries()?;
        let referrers = entries.iter();
        let referrers = referrers.filter_map(|entry| self.referrer(entry, subject, artifact_type));
        let mut found: Vec<Descriptor> = referrers.collect();
        let tag = referrers_tag(subject);
        if let Some(list) = find(entries.iter().collect(), &tag).first()
            && let Ok(list) = ImageIndex::parse(&self.document(list)?.bytes)
        {
            let is_of_type = |d: &&Descriptor| {
                let own = d.artifact_type.as_deref();
                own.is_none_or(|own| artifact_type.is_none_or(|wanted| own == wanted))
            };
            let is_new = |d: &&Descriptor| found.iter().all(|known| known.digest != d.digest);
            let listed = list.entries.usable().filter(is_of_type).filter(is_new);
            let listed: Vec<Descriptor> = listed.cloned().collect();
            found.extend(listed);
        }
        Ok(found)
    }

    fn describe(&self, digest: &Digest) -> Result<Option<Descriptor>, Error> {
        let mut listed = self.entries()?.into_iter();
        match listed.find(|entry| entry.digest == *digest) {
            Some(entry) => Ok(Some(entry)),
            None => self.unlisted(*digest),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use crate::source::archive::Files;

    const TYPE: &str = "application/vnd.example.artifact";

    /// Writes a document as a blob; its descriptor.
    fn put(folder: &std::path::Path, document: &Value) -> Value {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::sha256(&bytes);
        fs::write(folder.join("blobs/sha256").join(digest.hex()), &bytes).unwrap();
        json!({ "mediaType": document["mediaType"], "digest": digest, "size": bytes.len() })
    }

    fn tagged(mut entry: Value, tag: &str) -> Value {
        entry["annotations"] = json!({ REF_NAME: tag });
        entry
    }

    #[test]
    fn documents_tags_and_referrers() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        let of_type = "application/vnd.oci.image.manifest.v1+json";
        let image = put(folder, &json!({ "mediaType": of_type, "layers": [] }));
        let artifact = |artifact_type: &str, n: u8| {
            let document = json!({
                "mediaType": of_type, "artifactType": artifact_type, "subject": image, "n": n,
            });
            put(folder, &document)
        };
        let (listed, other, behind) = (artifact(TYPE, 1), artifact("other", 2), artifact(TYPE, 3));
        let list = put(
            folder,
            &json!({
                "mediaType": "application/vnd.oci.image.index.v1+json", "schemaVersion": 2,
                "manifests": [listed, behind],
            }),
        );
        let subject: Digest = image["digest"].as_str().unwrap().parse().unwrap();
        let tag = referrers_tag(&subject);
        let entries = [tagged(image.clone(), "v1"), listed.clone(), other, tagged(list, &tag)];
        let index = json!({ "schemaVersion": 2, "manifests": entries });
        fs::write(folder.join("index.json"), index.to_string()).unwrap();
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let layout = Layout::open(Files::Folder(folder.to_owned()), None).unwrap();
        let repository: &dyn Repository = &layout;
        assert_eq!(repository.tags().unwrap().names, [&tag, "v1"]);
        assert_eq!(repository.describe_tag("v1").unwrap().unwrap().digest, subject);
        assert!(repository.describe_tag("v2").unwrap().is_none());
        let by_tag = repository.named(Named::Tag("v1")).unwrap();
        assert!(subject.matches(&by_tag.bytes));
        assert_eq!(repository.named(Named::Digest(&subject)).unwrap().bytes, by_tag.bytes);
        assert!(repository.named(Named::Tag("v2")).unwrap_err().is_missing());
        let found = repository.referrers(&subject, Some(TYPE)).unwrap();
        let found: Vec<String> = found.iter().map(|d| d.digest.to_string()).collect();
        assert_eq!(found, [listed, behind].map(|d| d["digest"].as_str().unwrap().to_owned()));
        assert!(repository.referrers(&Digest::sha256(b"x"), Some(TYPE)).unwrap().is_empty());
        // Of all types, the one of another type is among them.
        assert_eq!(repository.referrers(&subject, None).unwrap().len(), 3);
        let described = repository.describe(&subject).unwrap().unwrap();
        assert_eq!((described.digest, described.size), (subject, by_tag.bytes.len() as u64));
        assert!(repository.describe(&Digest::sha256(b"x")).unwrap().is_none());
    }
}
