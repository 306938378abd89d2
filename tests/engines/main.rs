//! `ocifs-snapshotter` under containerd, and by itself.
//!
//! `snapshots` calls the snapshots API itself, as containerd does, for what containerd does not do: labels that lie,
//! databases that are damaged. `containerd` runs Debian's containerd with a root of its own, and calls it as `ctr` and the kubelet
//! do; `trees` holds what is shown under each chain ID against umoci, and `users` has other owners shown; `content` has the layers fetched into its store. What is fetched is counted by the registry of the tests.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "it is that of other tests")]
#[path = "../faults/shell.rs"]
mod shell;

#[allow(dead_code, reason = "it is that of other tests")]
#[path = "../oracle/snapshot.rs"]
mod snapshot;

mod containerd;
mod content;
mod credentials;
mod cri;
mod kubelet;
mod metrics;
mod mirrors;
mod plugin;
mod proto;
mod snapshots;
mod trees;
mod users;
