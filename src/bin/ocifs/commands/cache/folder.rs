//! The cache that a verb of `ocifs cache` is about.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use ocifs::cache::{Cache, Usage};

use crate::args::CacheVerb;
use crate::environment;
use crate::render::errors::AnyError;
use crate::render::json::set_name;

/// A cache, where it is, and how its verb prints.
pub(super) struct CacheFolder {
    pub(super) cache: Cache,
    pub(super) folder: PathBuf,
    pub(super) json: bool,
}

impl CacheFolder {
    /// The cache that a verb names, as it is.
    ///
    /// # Errors
    /// There is no place for one.
    pub(super) fn open(verb: &CacheVerb) -> Result<CacheFolder, AnyError> {
        let folder = environment::cache_folder(&verb.cache_args);
        let folder = folder.ok_or("there is no place for a cache: set --cache-dir")?;
        let limit = verb.cache_args.cache_size.unwrap_or_default();
        Ok(CacheFolder { cache: Cache::open_existing(&folder, limit), folder, json: verb.json })
    }

    /// An error with the folder it is about, that of the cache's version.
    pub(super) fn failed(&self, error: &io::Error) -> AnyError {
        format!("cache folder {}: {error}", self.folder.join("v1").display()).into()
    }

    /// Puts the folder into a document.
    pub(super) fn name_folder(&self, row: &mut serde_json::Value) {
        set_name(row, "folder", self.folder.as_os_str().as_bytes());
    }

    /// How much there is.
    ///
    /// # Errors
    /// The folder can't be used.
    pub(super) fn usage(&self) -> Result<Usage, AnyError> {
        self.cache.usage().map_err(|e| self.failed(&e))
    }
}
