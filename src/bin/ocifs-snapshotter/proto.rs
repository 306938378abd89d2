//! The messages of containerd's snapshots API, and its service; and clients of what is called of containerd. Made from the
//! files in `proto` when the program is built.

#![allow(
    dead_code,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    rustdoc::all,
    reason = "it is generated, with everything that the definitions have"
)]

/// `containerd.types`
pub(crate) mod types {
    include!(concat!(env!("OUT_DIR"), "/containerd.types.rs"));
}

/// `containerd.services.snapshots.v1`, from which `types` has to be where it is in the names of packages.
pub(crate) mod services {
    pub(crate) mod content {
        pub(crate) mod v1 {
            include!(concat!(env!("OUT_DIR"), "/containerd.services.content.v1.rs"));
        }
    }
    pub(crate) mod namespaces {
        pub(crate) mod v1 {
            include!(concat!(env!("OUT_DIR"), "/containerd.services.namespaces.v1.rs"));
        }
    }
    pub(crate) mod snapshots {
        pub(crate) mod v1 {
            include!(concat!(env!("OUT_DIR"), "/containerd.services.snapshots.v1.rs"));
        }
    }
}

pub(crate) use services::content::v1 as content;
pub(crate) use services::namespaces::v1 as namespaces;
pub(crate) use services::snapshots::v1 as snapshots;
