//! What has to be proven of layers before they are shown.

/// What has to be proven of layers before they are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RequiredProof {
    /// The user has not said.
    #[default]
    Unsaid,
    /// Nothing: tables of contents are shown as they are.
    Any,
    /// Nothing at first: large layers that are plain tars are shown by their headers, and proven later.
    Transport,
    /// Blob digest, diff ID and the tar.
    Full,
}

impl RequiredProof {
    /// This, or `other` where nothing was said.
    pub(crate) fn or(self, other: RequiredProof) -> RequiredProof {
        if self == RequiredProof::Unsaid { other } else { self }
    }

    /// Reads what flags, variables and settings say.
    ///
    /// # Errors
    /// It is none of `full`, `any` and `transport`, nor empty.
    pub(crate) fn parse(text: &str) -> Result<RequiredProof, String> {
        match text {
            "full" => Ok(RequiredProof::Full),
            "any" => Ok(RequiredProof::Any),
            "transport" => Ok(RequiredProof::Transport),
            // A variable that is set to nothing.
            "" => Ok(RequiredProof::Unsaid),
            _ => Err("a proof is `full`, `any` or `transport`".to_owned()),
        }
    }
}
