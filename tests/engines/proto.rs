//! Clients, made from the definitions when the tests are built.

#![allow(
    dead_code,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    reason = "they are generated"
)]

pub mod types {
    include!(concat!(env!("OUT_DIR"), "/containerd.types.rs"));
}

pub mod services {
    pub mod snapshots {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/containerd.services.snapshots.v1.rs"));
        }
    }
}

pub mod cri {
    include!(concat!(env!("OUT_DIR"), "/runtime.v1.rs"));
}

pub use services::snapshots::v1 as snapshots;
