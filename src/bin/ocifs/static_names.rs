//! Host names in a statically linked program.
//!
//! # Problem
//!
//! glibc's `getaddrinfo` asks the services that `/etc/nsswitch.conf` lists, and loads a shared library for each that is
//! not built in: `libnss_resolve.so.2`, say. In a static program such a library brings the machine's libc with it, a
//! second one beside the one that is linked in, and of another version on most machines: undefined behaviour, or a crash.
//!
//! # Design
//!
//! Before the first name is looked up, the services for hosts are set to `files dns`: `/etc/hosts` and the name servers of
//! `/etc/resolv.conf`. Both have been part of libc since glibc 2.34, so they work in a root that holds this program and
//! nothing else. systemd-resolved answers there too, as the name server 127.0.0.53.
//!
//! Rejected: a resolver of our own, such as hickory-resolver. That is an asynchronous runtime, dozens of crates,
//! and one more parser of bytes from the network, to be able to do what libc does. The dynamic program does not need this
//! and uses what the machine is configured for.
//!
//! Invariant: to look up a host, the static program loads no shared library.

#![cfg_attr(
    all(target_env = "gnu", target_feature = "crt-static"),
    allow(unsafe_code, reason = "one call; see there")
)]

/// Makes host names be looked up by what is linked in. Called before there are threads.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
pub(crate) fn use_built_in_services() {
    use std::ffi::{c_char, c_int};

    unsafe extern "C" {
        /// nss/nsswitch.h of glibc, exported since version 2.2.5.
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    // SAFETY: both are strings that end with NUL and live for ever. What it changes is behind a lock of libc.
    let failed = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    // It fails for a database that it does not know, or without memory; then names are looked up as configured.
    debug_assert_eq!(failed, 0);
}

/// The dynamic program looks up names as the machine is configured.
#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub(crate) fn use_built_in_services() {}
