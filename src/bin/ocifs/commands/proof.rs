//! What is told where less of an image is proven than could be.

use ocifs::index::Proof;

use crate::args::RequiredProof;

/// Warns, in a line, where the weakest of the layers' proofs is not the best there is, unless the user asked for
/// any.
pub(super) fn warn(name: &str, proofs: &[Proof], required: RequiredProof) {
    if let Some(text) = warning(name, proofs).filter(|_| required != RequiredProof::Any) {
        log::warn!("{text}");
    }
}

fn warning(name: &str, proofs: &[Proof]) -> Option<String> {
    let weakest = proofs.iter().copied().min()?;
    let what = match weakest {
        Proof::Full => return None,
        Proof::Tar => {
            "were found by their diff IDs: their tars are right, but the blobs that the manifest names \
             were not seen"
        }
        Proof::Toc => {
            "are shown as their tables of contents say, which were not compared with the tars that \
             runtimes unpack"
        }
        Proof::Transport => {
            "are large, and shown as they are sent: their digests are verified once all of them has come"
        }
        Proof::Hint => "are shown as an index says that anyone who may push could have pushed",
    };
    let weak = proofs.iter().filter(|proof| **proof < Proof::Full).count();
    Some(format!(
        "{name}: proof `{}`: {weak} of {} layers {what}. `--proof full` streams and checks them first; \
         `--proof any` silences this",
        weakest.name(),
        proofs.len(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weakest_is_told_in_a_line() {
        assert_eq!(warning("i", &[]), None);
        assert_eq!(warning("i", &[Proof::Full, Proof::Full]), None);
        for (proofs, expected) in [
            (&[Proof::Toc, Proof::Full][..], "i: proof `toc`: 1 of 2 layers "),
            (&[Proof::Full, Proof::Tar], "i: proof `tar`: 1 of 2 layers "),
            (&[Proof::Toc, Proof::Hint, Proof::Full], "i: proof `hint`: 2 of 3 layers "),
        ] {
            let text = warning("i", proofs).unwrap();
            assert!(text.starts_with(expected) && !text.contains('\n'), "{text}");
        }
    }
}
