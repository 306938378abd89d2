//! The cache that the flags and variables mean.

use std::path::PathBuf;
use std::sync::Arc;

use ocifs::cache::Cache;

use crate::args::CacheArgs;
use crate::variables::cache_home;

/// The folder of the cache that the user's flags and environment mean.
pub(crate) fn cache_folder(args: &CacheArgs) -> Option<PathBuf> {
    let named = args.cache_dir.clone().filter(|folder| !folder.as_os_str().is_empty());
    let folder = named.or_else(|| Some(cache_home()?.join("ocifs")));
    // A mount in the background leaves the current directory.
    folder.and_then(|folder| std::path::absolute(folder).ok())
}

/// The cache in that folder.
pub(crate) fn cache(args: &CacheArgs) -> Arc<Cache> {
    Arc::new(match cache_folder(args) {
        Some(folder) => Cache::open_limited(&folder, args.cache_size.unwrap_or_default()),
        None => {
            log::warn!("no place for a cache: set --cache-dir");
            Cache::none()
        }
    })
}
