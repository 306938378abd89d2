//! What happens when something is wrong: with the image, the registry, the cache, or around the
//! program.
//!
//! A tool that shows other people's files is judged by the bad day. So each test here breaks one
//! thing and asks for the same four answers: the error names the cause, it comes in bounded time,
//! nothing wrong stays in the cache, and once the cause is gone everything works again.
//!
//! One binary, so that it is linked once. Modules by what is broken.
//! (`manual` alone is about the good day: the commands of the documentation, run as they stand there.)

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod external_fixture;
mod fixture;
mod logs;
mod provenance;
mod published;
mod screen;
mod shell;

mod access;
mod archives;
mod artifacts;
mod artifacts_made;
mod attest;
mod blobs;
mod bombs;
mod bounded;
mod browse;
mod browse_archives;
mod browse_shared;
mod cache_commands;
mod cache_damage;
mod cache_eviction;
mod cache_limits;
mod cache_trust;
mod checks;
mod completions;
mod containment;
mod containment_elsewhere;
mod credential_helpers;
mod diff;
mod doctor;
mod documents;
mod download_parts;
mod engines;
mod entries;
mod excerpts;
mod exclude_base;
mod explore;
mod external_artifact;
mod external_soci;
mod external_split_views;
mod external_toc;
mod external_verify;
mod external_walks;
mod held;
mod history;
mod hung_disk;
mod image_set;
mod indexes;
mod injection;
mod inside;
mod inside_copy;
mod inspect;
mod kernel_metadata;
mod kill_storm;
mod layer_forms;
mod layouts;
mod lazy;
mod lazy_ahead;
mod lazy_indexes;
mod lazy_open;
mod lazy_random;
mod lazy_reads;
mod lazy_resume;
mod lazy_servers;
mod lazy_size;
mod lazy_uncached;
mod lazy_walks;
mod links;
mod local_copies;
mod long_lives;
mod lowest_layers;
mod manual;
mod metadata_bombs;
mod mirror;
mod mirrors;
mod mount_points;
mod names;
mod namespaces;
mod outages;
mod outer_archives;
mod paths;
mod prefetcher;
mod pressure;
mod privacy;
mod program;
mod progress;
mod proof;
mod proxies;
mod registry_auth;
mod registry_bodies;
mod registry_errors;
mod registry_labels;
mod registry_moved;
mod registry_push;
mod registry_ranges;
mod registry_referrers;
mod reports;
mod rounds;
mod run;
mod scratch;
mod selection;
mod signals;
mod sparse_maps;
mod stalls;
mod status;
mod store;
mod structure;
mod survival;
mod survival_lookups;
mod suspects;
mod tags;
mod transport;
mod upgrade;
mod users;
mod wide_reads;
