//! Compose projects, as `docker compose publish` writes them: which files there are, and the one that Compose makes of them.
//!
//! A project has the files that were given with `-f`, those that they extend, and files with variables. Names of the
//! latter two are hashes, and the former refer to them; so all of these lie in one directory. Of the files that were
//! given, which complement each other in their order, `docker compose -f oci://…` makes one, `compose.yaml`, with several YAML
//! documents in it, and reads that (docker/compose, `pkg/remote/oci.go`). So it is shown, too: `docker compose -f
//! DIR/compose.yaml` does the same as the original. The single files are in a directory beside it then, where they
//! take no name from it.

use super::names::annotation;
use super::{Joined, Piece};
use crate::oci::{Descriptor, Manifest, media_type};

/// What Compose calls the file that it makes.
pub(super) const FILE: &str = "compose.yaml";

/// The directory of the files that it is made of.
const PARTS: &str = "parts";

const TYPE: &str = "application/vnd.docker.compose.file+yaml";
const FILE_NAME: &str = "com.docker.compose.file";
const ENV_NAME: &str = "com.docker.compose.envfile";
const EXTENDS: &str = "com.docker.compose.extends";

/// What Compose writes between two files.
const BETWEEN: &[u8] = b"\n---\n";

/// The files that make one, if they are several, in the order of the manifest.
pub(super) fn pieces(manifest: &Manifest) -> Vec<Piece> {
    let layers = manifest.layers.iter().enumerate().filter(|(_, layer)| is_piece(layer));
    let piece = |(at, layer): (usize, &Descriptor)| {
        let is_named = layer.annotations.contains_key(FILE_NAME);
        let before = if at > 0 && is_named { BETWEEN } else { b"" };
        Piece { before, blob: layer.clone() }
    };
    let pieces: Vec<Piece> = layers.map(piece).collect();
    if pieces.len() > 1 { pieces } else { Vec::new() }
}

fn is_piece(layer: &Descriptor) -> bool {
    media_type::essence(&layer.media_type) == TYPE && !layer.annotations.contains_key(EXTENDS)
}

/// What a layer is called; `is_joined` if those that were given are shown as one, too.
pub(super) fn name(layer: &Descriptor, is_joined: bool) -> Option<String> {
    let own = [FILE_NAME, ENV_NAME].iter().find_map(|key| annotation(layer, key))?;
    Some(match is_joined && is_piece(layer) {
        true => format!("{PARTS}/{own}"),
        false => own.to_owned(),
    })
}

impl Joined {
    /// Its bytes, of those of its pieces.
    pub fn bytes(&self, blobs: &[Vec<u8>]) -> Vec<u8> {
        let pieces = self.pieces.iter().zip(blobs);
        pieces.flat_map(|(piece, blob)| [piece.before, blob].concat()).collect()
    }
}
