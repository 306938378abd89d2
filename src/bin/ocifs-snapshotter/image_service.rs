//! The kubelet's image service on a socket of its own, forwarded to containerd.
//!
//! # Problem
//!
//! The kubelet gives the credentials of a pod with each pull, to whom it calls: its `--image-service-endpoint`.
//!
//! # Design
//!
//! Requests and answers are forwarded as they are, bodies, headers and trailers, whatever is in them: fields and methods that
//! came later, and those of the older version `v1alpha2`, which has the same numbers. Only the request of a pull is
//! looked into before, for the image and the credentials. Other services than the image service are refused.
//!
//! (Rejected: to decode messages and encode them again, as it is easier to write. What is not known here would be lost.)

use std::convert::Infallible;
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body_util::{BodyExt, Full, Limited};
use prost::Message;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::transport::{Channel, Server};
use tonic::{Code, Status};

use crate::containerd::Containerd;
use crate::credentials::{Auth, Credentials, Given};
use crate::socket;

/// What calls of the service begin with.
const SERVICES: [&str; 2] = ["/runtime.v1.ImageService/", "/runtime.v1alpha2.ImageService/"];
const PULL: &str = "PullImage";

/// Longest request of a pull, in bytes: containerd takes no longer one.
const MAX_PULL_BYTES: usize = 16 << 20;

/// What stands before a message: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// `PullImageRequest` of the CRI, as far as it is looked into.
#[derive(Clone, PartialEq, Message)]
struct Pull {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
    #[prost(message, optional, tag = "2")]
    auth: Option<Auth>,
}

#[derive(Clone, PartialEq, Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

impl Pull {
    /// Reads the body of a request; `None` if it is not one that is understood.
    fn read(body: &[u8]) -> Option<Pull> {
        let (head, message) = body.split_at_checked(HEAD_BYTES)?;
        let [0, length @ ..] = head else { return None };
        let length = u32::from_be_bytes(length.try_into().ok()?);
        Pull::decode(message.get(..usize::try_from(length).ok()?)?).ok()
    }
}

/// The service, listening.
#[derive(Debug)]
pub(crate) struct ImageService {
    listener: UnixListener,
    forward: Forward,
}

impl ImageService {
    /// Listens, on a thread of the runtime.
    pub(crate) fn listen(
        path: &Path,
        containerd: &Containerd,
        credentials: Arc<Credentials>,
    ) -> Result<ImageService, String> {
        let failed = |e| format!("the socket {}: {e}", path.display());
        let listener = UnixListener::from_std(socket::listen(path)?).map_err(failed)?;
        log::info!("answering the kubelet on {}", path.display());
        Ok(ImageService { listener, forward: Forward { to: containerd.channel(), credentials } })
    }

    /// Answers for as long as the program runs. The socket stays, and is replaced when the program starts again.
    pub(crate) async fn serve(self) {
        let incoming = UnixListenerStream::new(self.listener);
        if let Err(e) = Server::builder().serve_with_incoming(self.forward, incoming).await {
            log::error!("the image service has ended: {e}");
        }
    }
}

/// Forwards calls.
#[derive(Clone, Debug)]
struct Forward {
    to: Channel,
    credentials: Arc<Credentials>,
}

impl Service<Request<Body>> for Forward {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let forward = self.clone();
        Box::pin(async move { Ok(forward.answer(request).await.unwrap_or_else(Status::into_http)) })
    }
}

impl Forward {
    async fn answer(mut self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let path = request.uri().path();
        let method = SERVICES.iter().find_map(|service| path.strip_prefix(service));
        let method = method.ok_or_else(|| {
            Status::unimplemented("only the image service answers on this socket")
        })?;
        let (request, given) = match method {
            PULL => self.look_into(request).await?,
            _ => (request, None),
        };
        let away = |e| Status::unavailable(format!("containerd does not answer: {e}"));
        poll_fn(|cx| self.to.poll_ready(cx)).await.map_err(away)?;
        let answer = self.to.call(request).await.map_err(away);
        if let Some(given) = given
            && !answer.as_ref().is_ok_and(may_succeed)
        {
            self.credentials.take_back(given);
        }
        answer
    }

    /// Keeps the credentials of a pull.
    async fn look_into(
        &self,
        request: Request<Body>,
    ) -> Result<(Request<Body>, Option<Given>), Status> {
        let (head, body) = request.into_parts();
        let too_long = |e| Status::resource_exhausted(format!("the request of a pull: {e}"));
        let body = Limited::new(body, MAX_PULL_BYTES).collect().await.map_err(too_long)?.to_bytes();
        let given = Pull::read(&body)
            .and_then(|pull| self.credentials.give(&pull.image?.image, &pull.auth?));
        Ok((Request::from_parts(head, Body::new(Full::new(body))), given))
    }
}

/// Whether an answer is not an error that was known at once: then its head says so.
fn may_succeed(answer: &Response<Body>) -> bool {
    let said = Status::from_header_map(answer.headers());
    answer.status().is_success() && said.is_none_or(|status| status.code() == Code::Ok)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn body(pull: &Pull) -> Vec<u8> {
        let message = pull.encode_to_vec();
        let length = (message.len() as u32).to_be_bytes();
        [&[0], &length[..], &message].concat()
    }

    #[test]
    fn pulls_are_read_and_nothing_else() {
        let image = Some(ImageSpec { image: "r.example/a:1".to_owned() });
        let pull = Pull { image, auth: Some(Auth::default()) };
        let body = body(&pull);
        assert_eq!(Pull::read(&body), Some(pull));
        // What is not known here does not matter.
        let longer = [&body[..], &[0x22, 1, b'x']].concat();
        assert!(Pull::read(&longer).is_some());
        for end in 0..body.len() {
            assert_eq!(Pull::read(&body[..end]), None, "{end}");
        }
        let compressed = [&[1], &body[1..]].concat();
        assert_eq!(Pull::read(&compressed), None);
        assert_eq!(Pull::read(&[0, 0xff, 0xff, 0xff, 0xff, 1]), None);
        assert_eq!(Pull::read(&[0, 0, 0, 0, 2, 0xff, 0xff]), None);
    }
}
