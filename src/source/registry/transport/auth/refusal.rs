//! Answers that refuse something for lack of the right credentials.
//!
//! A few registries send a challenge only at the root of their API, and answer anonymous requests for a
//! private repository that it does not exist. So a 400, 403 or 404 without a challenge to something that should
//! be there makes us ask that root, once for each registry.

use ureq::Body as HttpBody;
use ureq::http::{Response, Uri};

use crate::source::registry::transport::challenge::{Challenge, challenges};

/// An answer of the registry that asks for credentials, or does not take those that were sent.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) challenges: Vec<Challenge>,
    pub(super) url: Uri,
    /// The value of the header that was sent.
    pub(super) sent: Option<String>,
    /// 403: nothing is asked for.
    pub(super) is_final: bool,
    /// It may be there for those who have logged in, as far as the answer tells.
    pub(super) may_hide: bool,
}

/// What an answer refuses for lack of the right credentials, if it does.
pub(super) fn of(
    response: &Response<HttpBody>,
    url: &Uri,
    sent: Option<String>,
) -> Option<Refusal> {
    let challenges = challenges(response);
    // Some hide what strangers may not see, and ask for a login at the root of their API alone.
    let may_hide = sent.is_none() && challenges.is_empty();
    // A token of too small a scope (IBM's registry answers so).
    let wants_more = challenges
        .iter()
        .any(|c| c.parameters.get("error").is_some_and(|e| e == "insufficient_scope"));
    let (is_final, may_hide) = match response.status().as_u16() {
        401 => (false, false),
        403 if wants_more => (false, false),
        // Perhaps a password that has ended (Amazon's registry answers so).
        403 if sent.is_some() => (true, false),
        400 | 403 | 404 if may_hide => (false, true),
        _ => return None,
    };
    Some(Refusal { challenges, url: url.clone(), sent, is_final, may_hide })
}
