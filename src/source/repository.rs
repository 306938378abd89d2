//! What a repository can tell: several images and artifacts under one name, in a registry or in a layout.

use std::fmt;

use super::error::Error;
use super::raw::RawDocument;
use crate::digest::Digest;
use crate::oci::Descriptor;

/// Which document of a repository is meant.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    /// The one that a tag means now.
    Tag(&'a str),
    /// The one with this digest.
    Digest(&'a Digest),
}

/// The tags of a repository, in no order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// Their names.
    pub names: Vec<String>,
    /// Why there may be more.
    pub cut: Option<String>,
}

/// What a tag has meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The manifest or image index.
    pub digest: Digest,
    /// When it was pushed so: seconds since the epoch.
    pub pushed: Option<i64>,
}

/// Images and artifacts under one name. Nothing of it is verified.
pub trait Repository: fmt::Debug + Send + Sync {
    /// A manifest or image index by tag or digest.
    ///
    /// # Errors
    /// It can't be had.
    fn named(&self, name: Named<'_>) -> Result<RawDocument, Error>;

    /// The tags that there are.
    ///
    /// # Errors
    /// They can't be listed.
    fn tags(&self) -> Result<Tags, Error>;

    /// A descriptor for what a tag means now, without fetching it; `None` where that can't be told.
    ///
    /// # Errors
    /// It can't be asked for.
    fn describe_tag(&self, tag: &str) -> Result<Option<Descriptor>, Error>;

    /// What a tag has meant, what it means now included, the latest first; nothing where that is not kept.
    ///
    /// # Errors
    /// It can't be read.
    fn revisions(&self, _tag: &str) -> Result<Vec<Revision>, Error> {
        Ok(Vec::new())
    }

    /// Descriptors of the artifacts that refer to `subject`: of one type, and of those whose type their own
    /// manifests have to tell, or of all types.
    ///
    /// # Errors
    /// They can't be listed. That there is none is no error.
    fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error>;

    /// A descriptor for what is known by its digest alone, of which no document says the size; `None` if it is not
    /// there.
    ///
    /// # Errors
    /// It can't be asked for.
    fn describe(&self, digest: &Digest) -> Result<Option<Descriptor>, Error>;
}
