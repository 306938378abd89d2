//! containerd's own services, as far as they are called: namespaces, and what is in its content store.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::Uri;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::proto::content as api;
use crate::proto::content::content_client::ContentClient;
use crate::proto::namespaces::ListNamespacesRequest;
use crate::proto::namespaces::namespaces_client::NamespacesClient;
use crate::snapshots::Labels;

/// How long an answer may take. containerd reads what is there of a blob before it goes on with it, and writes all of it to
/// the disk before it takes it.
const ANSWER: Duration = Duration::from_secs(600);

/// The header that says in which namespace a call is.
const NAMESPACE: &str = "containerd-namespace";

/// A containerd, which need not run yet.
#[derive(Clone, Debug)]
pub(crate) struct Containerd(Channel);

impl Containerd {
    /// The one that answers on a socket. Called on a thread of the runtime.
    pub(crate) fn at(path: &Path) -> Result<Containerd, String> {
        let wrong = || format!("{} can't be the path of a socket", path.display());
        let path = std::path::absolute(path).map_err(|_| wrong())?;
        let uri = format!("unix://{}", path.to_str().ok_or_else(wrong)?);
        // The path is taken as it is, and is no part of a URI.
        let endpoint = Endpoint::try_from(uri).map_err(|_| wrong())?;
        let origin = Uri::from_static("http://localhost");
        Ok(Containerd(endpoint.origin(origin).connect_lazy()))
    }

    /// Where calls are forwarded to.
    pub(crate) fn channel(&self) -> Channel {
        self.0.clone()
    }

    pub(crate) async fn namespaces(&self) -> Result<Vec<String>, Status> {
        let mut client = NamespacesClient::new(self.0.clone());
        let listed = client.list(ListNamespacesRequest::default());
        let namespaces = answered(listed).await?.into_inner().namespaces;
        Ok(namespaces.into_iter().map(|namespace| namespace.name).collect())
    }

    /// The labels of a blob, if it is there.
    pub(crate) async fn labels(
        &self,
        namespace: &str,
        digest: &str,
    ) -> Result<Option<HashMap<String, String>>, Status> {
        let request = api::InfoRequest { digest: digest.to_owned() };
        let mut client = ContentClient::new(self.0.clone());
        match answered(client.info(within(namespace, request)?)).await {
            Ok(answer) => Ok(Some(answer.into_inner().info.unwrap_or_default().labels)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Begins to write a blob, or goes on with it; `None` if it is there.
    pub(crate) async fn ingest(
        &self,
        namespace: &str,
        reference: &str,
        digest: &str,
    ) -> Result<Option<Ingest>, Status> {
        let (requests, received) = mpsc::channel(1);
        let mut first = message(api::WriteAction::Stat, digest);
        first.r#ref = reference.to_owned();
        // It is empty, and its other end is here.
        let _ = requests.try_send(first);
        let mut client = ContentClient::new(self.0.clone());
        let request = within(namespace, ReceiverStream::new(received))?;
        let begun = async {
            let answers = answered(client.write(request)).await?.into_inner();
            let mut ingest = Ingest { requests, answers, digest: digest.to_owned(), offset: 0 };
            ingest.answer().await?;
            Ok::<Ingest, Status>(ingest)
        };
        match begun.await {
            Ok(ingest) => Ok(Some(ingest)),
            Err(status) if status.code() == Code::AlreadyExists => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Removes what was written of a blob.
    pub(crate) async fn abort(&self, namespace: &str, reference: &str) -> Result<(), Status> {
        let request = api::AbortRequest { r#ref: reference.to_owned() };
        let mut client = ContentClient::new(self.0.clone());
        answered(client.abort(within(namespace, request)?)).await.map(drop)
    }
}

/// A blob that is being written. What was written stays when this goes.
#[derive(Debug)]
pub(crate) struct Ingest {
    requests: mpsc::Sender<api::WriteContentRequest>,
    answers: Streaming<api::WriteContentResponse>,
    digest: String,
    offset: i64,
}

impl Ingest {
    /// How many bytes are there.
    pub(crate) fn offset(&self) -> u64 {
        self.offset.unsigned_abs()
    }

    pub(crate) async fn write(&mut self, data: Vec<u8>) -> Result<(), Status> {
        let mut request = message(api::WriteAction::Write, &self.digest);
        (request.offset, request.data) = (self.offset, data);
        self.send(request).await
    }

    /// Ends it: the blob is there, if it has its digest.
    pub(crate) async fn commit(mut self, labels: Labels) -> Result<(), Status> {
        let mut request = message(api::WriteAction::Commit, &self.digest);
        (request.offset, request.labels) = (self.offset, labels.into_iter().collect());
        match self.send(request).await {
            // Another has brought it meanwhile.
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            result => result,
        }
    }

    async fn send(&mut self, request: api::WriteContentRequest) -> Result<(), Status> {
        // If the call has ended, its answer says why.
        let _ = self.requests.send(request).await;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<(), Status> {
        let answer = answered(self.answers.message()).await?;
        let ended = || Status::unavailable("containerd has ended the call");
        self.offset = answer.ok_or_else(ended)?.offset;
        Ok(())
    }
}

fn message(action: api::WriteAction, digest: &str) -> api::WriteContentRequest {
    let (action, expected) = (action.into(), digest.to_owned());
    api::WriteContentRequest { action, expected, ..Default::default() }
}

fn within<T>(namespace: &str, message: T) -> Result<Request<T>, Status> {
    let wrong = |_| Status::invalid_argument(format!("the namespace {namespace:?}"));
    let namespace: AsciiMetadataValue = namespace.parse().map_err(wrong)?;
    let mut request = Request::new(message);
    request.metadata_mut().insert(NAMESPACE, namespace);
    Ok(request)
}

async fn answered<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Status::deadline_exceeded("containerd does not answer");
    timeout(ANSWER, call).await.map_err(late)?
}
