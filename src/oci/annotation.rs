//! Names of annotations (image-spec 1.1, annotations.md).

/// What a blob is called: a file's name, or its path.
pub const TITLE: &str = "org.opencontainers.image.title";

/// When it was built (RFC 3339).
pub const CREATED: &str = "org.opencontainers.image.created";
