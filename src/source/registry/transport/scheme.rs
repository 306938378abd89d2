//! The scheme that a host speaks: of https and http the one that comes first, or the other where that fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ureq::http::Uri;

use crate::source::registry::error::Error;

/// Schemes and host of an API, and which of the schemes is used.
#[derive(Debug)]
pub(in crate::source::registry) struct Schemes {
    /// The same host with each scheme that may be tried: as text, and understood.
    origins: Vec<(String, Option<Uri>)>,
    current: AtomicUsize,
    /// The server has answered, so that its scheme is the right one.
    is_settled: AtomicBool,
}

impl Schemes {
    pub(in crate::source::registry) fn new(origins: Vec<String>) -> Schemes {
        let origins = origins.into_iter().map(|text| {
            let uri = text.parse().ok();
            (text, uri)
        });
        let (current, is_settled) = (AtomicUsize::new(0), AtomicBool::new(false));
        Schemes { origins: origins.collect(), current, is_settled }
    }

    /// Scheme and host of the API.
    pub(in crate::source::registry) fn base(&self) -> &str {
        self.origins.get(self.current.load(Ordering::Relaxed)).map_or("", |(text, _)| text)
    }

    /// The same as a URL, if it is one.
    pub(in crate::source::registry) fn origin(&self) -> Option<&Uri> {
        self.origins.get(self.current.load(Ordering::Relaxed))?.1.as_ref()
    }

    /// Whether the API is asked without TLS.
    fn is_plain(&self) -> bool {
        !self.base().starts_with("https")
    }

    /// Goes on to the other scheme after an error that may be due to the first one. Whether there is
    /// one.
    fn try_other_scheme(&self, error: &Error) -> bool {
        let is_open = self.origins.len() > 1 && !self.is_settled.load(Ordering::Relaxed);
        let may_help = if self.is_plain() { error.wants_tls() } else { error.is_transport() };
        let changes = is_open && may_help && self.current.load(Ordering::Relaxed) == 0;
        if changes {
            self.current.store(1, Ordering::Relaxed);
        }
        changes
    }

    /// Does something in the scheme that the server speaks. Where it may be either, that is found out
    /// here: so URLs have to be made in `act`, as the second time they are other ones.
    pub(in crate::source::registry) fn in_its_scheme<T>(
        &self,
        mut act: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut result = act();
        if let Err(error) = &result
            && self.try_other_scheme(error)
        {
            let other = act();
            // That it speaks TLS it has said; that it speaks plain HTTP was a guess.
            let is_better = match &other {
                Ok(_) => true,
                Err(error) => error.is_answer() || !self.is_plain(),
            };
            match is_better {
                true => result = other,
                false => self.current.store(0, Ordering::Relaxed),
            }
        }
        if result.is_ok() {
            self.is_settled.store(true, Ordering::Relaxed);
        }
        result
    }
}
