//! x
pub mod blob;
pub mod cache;
pub mod codec;
pub mod content;
pub mod digest;
pub mod extent;
pub mod fs;
pub mod fuse;
pub mod image;
pub mod index;
pub mod layer;
pub mod mount;
pub mod reference;
pub mod resolve;
pub mod source;
pub mod tar;
pub mod tree;
