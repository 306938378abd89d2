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

/// Images and artifacts under one name. Nothing of it is verified.
pub trait Repository: fmt::Debug + Send + Sync {
    /// A manifest or image index by tag or digest.
    ///
    /// # Errors
    /// It can't be had.
    fn named(&self, name: Named<'_>) -> Result<RawDocument, Error>;

    /// The tags that there are, as far as one question tells them.
    ///
    /// # Errors
    /// They can't be listed.
    fn tags(&self) -> Result<Vec<String>, Error>;

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
