//! Chain IDs: the names that engines give to a stack of layers.

use std::fmt;

use super::{DiffId, Digest};

/// What a layer is called together with all below it. Format: OCI image spec, config.md, "Layer ChainID".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// The chain ID of each layer, base first.
    pub fn of_layers<'a>(diff_ids: impl IntoIterator<Item = &'a DiffId>) -> Vec<ChainId> {
        let mut chain: Vec<ChainId> = Vec::new();
        for diff_id in diff_ids {
            let id = match chain.last() {
                None => diff_id.0,
                Some(below) => Digest::sha256(format!("{below} {diff_id}").as_bytes()),
            };
            chain.push(ChainId(id));
        }
        chain
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of each was computed with `printf '%s %s' A B | sha256sum`.
    #[test]
    fn as_engines_compute_them() {
        let layers = [b"a", b"b", b"c"].map(|text| DiffId(Digest::sha256(text)));
        let chain = ChainId::of_layers(&layers);
        assert_eq!(chain[0].0, layers[0].0);
        assert_eq!(
            chain[1].to_string(),
            "sha256:51c0c8ace48498d6f5fee6b0592cc06f2da0f3cbe09c5a34a97dce85c3889676"
        );
        assert_eq!(
            chain[2].to_string(),
            "sha256:2fce7f8ce91bcf0a1428b36e1024639fdbd9469eea762dba98aa749631885106"
        );
        assert!(ChainId::of_layers([]).is_empty());
    }
}
