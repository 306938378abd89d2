//! The snapshots API: messages and codes, and nothing else. What a call does may take long, and happens on a thread of its own.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost_types::Timestamp;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, iter};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

use crate::manager;
use crate::overlay::Mount;
use crate::proto::snapshots as api;
use crate::proto::snapshots::snapshots_server::{Snapshots, SnapshotsServer};
use crate::proto::types;
use crate::snapshots::{Change, Error, Kind, Labels, Snapshot};
use crate::snapshotter::Snapshotter;
use crate::socket;

/// Rows in one message of a list.
const ROWS: usize = 100;

/// How long calls that are under way may take once the program is to end. A pull is not waited for.
const END: Duration = Duration::from_secs(5);

/// Answers until a signal ends the program.
pub(crate) async fn serve(snapshotter: Arc<Snapshotter>, path: &Path) -> Result<(), String> {
    let failed = |e| format!("the socket {}: {e}", path.display());
    let listener = UnixListener::from_std(socket::listen(path)?).map_err(failed)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
    log::info!("answering on {}", path.display());
    manager::tell(manager::READY);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let service = SnapshotsServer::new(Service(snapshotter));
    let stopped = async {
        // The other end is dropped when the signal has come.
        let _ = stopped.await;
    };
    let incoming = UnixListenerStream::new(listener);
    let served = Server::builder().serve_with_incoming_shutdown(service, incoming, stopped);
    let ended = async {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        manager::tell(manager::STOPPING);
        drop(stop);
        tokio::time::sleep(END).await;
    };
    tokio::select! {
        served = served => served.map_err(|e| format!("the socket {}: {e}", path.display()))?,
        () = ended => log::warn!("calls that were under way are given up"),
    }
    // Another process may listen there by now; then it has removed this one's.
    let _ = std::fs::remove_file(path);
    Ok(())
}

struct Service(Arc<Snapshotter>);

impl Service {
    async fn call<T: Send + 'static>(
        &self,
        method: &'static str,
        act: impl FnOnce(&Snapshotter) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let snapshotter = Arc::clone(&self.0);
        let act = move || {
            let begun = Instant::now();
            let done = act(&snapshotter).map_err(|error| status(&error));
            let code = done.as_ref().map_or_else(Status::code, |_| Code::Ok);
            snapshotter.metrics().called(method, code, begun.elapsed());
            done
        };
        let done = tokio::task::spawn_blocking(act).await;
        let done = done.map_err(|e| Status::internal(format!("the call has failed: {e}")))?;
        done.inspect_err(|status| log::debug!("{status}"))
    }
}

fn status(error: &Error) -> Status {
    let text = error.to_string();
    match error {
        Error::NotFound(_) => Status::not_found(text),
        Error::Exists(_) => Status::already_exists(text),
        Error::Precondition(_) => Status::failed_precondition(text),
        Error::Invalid(_) => Status::invalid_argument(text),
        Error::Unavailable(_) => Status::unavailable(text),
        Error::Database(_) | Error::Io(_) => {
            log::error!("{text}");
            Status::internal(text)
        }
    }
}

#[tonic::async_trait]
impl Snapshots for Service {
    async fn prepare(
        &self,
        request: Request<api::PrepareSnapshotRequest>,
    ) -> Result<Response<api::PrepareSnapshotResponse>, Status> {
        let api::PrepareSnapshotRequest { key, parent, labels, .. } = request.into_inner();
        let mounts =
            self.call("Prepare", move |to| to.prepare(&key, &parent, ordered(labels))).await?;
        let mounts = messages(mounts);
        Ok(Response::new(api::PrepareSnapshotResponse { mounts }))
    }

    async fn view(
        &self,
        request: Request<api::ViewSnapshotRequest>,
    ) -> Result<Response<api::ViewSnapshotResponse>, Status> {
        let api::ViewSnapshotRequest { key, parent, labels, .. } = request.into_inner();
        let mounts = self.call("View", move |to| to.view(&key, &parent, ordered(labels))).await?;
        Ok(Response::new(api::ViewSnapshotResponse { mounts: messages(mounts) }))
    }

    async fn mounts(
        &self,
        request: Request<api::MountsRequest>,
    ) -> Result<Response<api::MountsResponse>, Status> {
        let key = request.into_inner().key;
        let mounts = self.call("Mounts", move |to| to.mounts(&key)).await?;
        Ok(Response::new(api::MountsResponse { mounts: messages(mounts) }))
    }

    async fn commit(
        &self,
        request: Request<api::CommitSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let api::CommitSnapshotRequest { name, key, labels, parent, .. } = request.into_inner();
        self.call("Commit", move |to| {
            if !parent.is_empty() && to.stat(&key)?.parent != parent {
                let text = format!("snapshot {key} can't be given another parent");
                return Err(Error::Invalid(text));
            }
            to.commit(&name, &key, ordered(labels))
        })
        .await?;
        Ok(Response::new(()))
    }

    async fn remove(
        &self,
        request: Request<api::RemoveSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let key = request.into_inner().key;
        self.call("Remove", move |to| to.remove(&key)).await?;
        Ok(Response::new(()))
    }

    async fn stat(
        &self,
        request: Request<api::StatSnapshotRequest>,
    ) -> Result<Response<api::StatSnapshotResponse>, Status> {
        let key = request.into_inner().key;
        let name = key.clone();
        let snapshot = self.call("Stat", move |to| to.stat(&key)).await?;
        Ok(Response::new(api::StatSnapshotResponse { info: Some(info(name, snapshot)) }))
    }

    async fn update(
        &self,
        request: Request<api::UpdateSnapshotRequest>,
    ) -> Result<Response<api::UpdateSnapshotResponse>, Status> {
        let api::UpdateSnapshotRequest { info: given, update_mask, .. } = request.into_inner();
        let given = given.ok_or_else(|| Status::invalid_argument("what to update is missing"))?;
        let paths = update_mask.map(|mask| mask.paths).unwrap_or_default();
        let (name, of) = (given.name.clone(), given.name);
        let change = change(ordered(given.labels), &paths).map_err(|error| status(&error))?;
        let snapshot = self.call("Update", move |to| to.update(&of, change)).await?;
        Ok(Response::new(api::UpdateSnapshotResponse { info: Some(info(name, snapshot)) }))
    }

    type ListStream =
        Pin<Box<dyn Stream<Item = Result<api::ListSnapshotsResponse, Status>> + Send>>;

    async fn list(
        &self,
        request: Request<api::ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let filters = request.into_inner().filters;
        let found = self.call("List", move |to| to.list(&filters)).await?;
        let infos: Vec<_> = found.into_iter().map(|(name, row)| info(name, row)).collect();
        let messages =
            infos.chunks(ROWS).map(|rows| Ok(api::ListSnapshotsResponse { info: rows.to_vec() }));
        Ok(Response::new(Box::pin(iter(messages.collect::<Vec<_>>()))))
    }

    async fn usage(
        &self,
        request: Request<api::UsageRequest>,
    ) -> Result<Response<api::UsageResponse>, Status> {
        let key = request.into_inner().key;
        let usage = self.call("Usage", move |to| to.usage(&key)).await?;
        let (size, inodes) = (usage.bytes as i64, usage.inodes as i64);
        Ok(Response::new(api::UsageResponse { size, inodes }))
    }

    async fn cleanup(
        &self,
        _request: Request<api::CleanupRequest>,
    ) -> Result<Response<()>, Status> {
        self.call("Cleanup", Snapshotter::cleanup).await?;
        Ok(Response::new(()))
    }
}

fn ordered(labels: HashMap<String, String>) -> Labels {
    labels.into_iter().collect()
}

fn messages(mounts: Vec<Mount>) -> Vec<types::Mount> {
    let message = |Mount { kind, source, options }| types::Mount {
        r#type: String::from(kind),
        source,
        target: String::new(),
        options,
    };
    mounts.into_iter().map(message).collect()
}

fn info(name: String, snapshot: Snapshot) -> api::Info {
    let kind = match snapshot.kind {
        Kind::View => api::Kind::View,
        Kind::Active => api::Kind::Active,
        Kind::Committed => api::Kind::Committed,
    };
    let time = |since: Duration| {
        Some(Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() as i32 })
    };
    api::Info {
        name,
        parent: snapshot.parent,
        kind: kind.into(),
        created_at: time(snapshot.created),
        updated_at: time(snapshot.updated),
        labels: snapshot.labels.into_iter().collect(),
    }
}

/// What an update changes: labels are all that can be.
fn change(mut labels: Labels, paths: &[String]) -> Result<Change, Error> {
    if paths.is_empty() || paths.iter().any(|path| path == "labels") {
        return Ok(Change::All(labels));
    }
    let changes = paths.iter().map(|path| match path.strip_prefix("labels.") {
        Some(label) => {
            let value = labels.remove(label).filter(|value| !value.is_empty());
            Ok((label.to_owned(), value))
        }
        None => Err(Error::Invalid(format!("the field `{path}` of a snapshot can't be changed"))),
    });
    Ok(Change::Some(changes.collect::<Result<_, _>>()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn masks_say_what_changes() {
        let labels = Labels::from([("a".to_owned(), "1".to_owned())]);
        let of = |paths: &[&str]| {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            change(labels.clone(), &paths)
        };
        assert_eq!(of(&[]), Ok(Change::All(labels.clone())));
        assert_eq!(of(&["labels"]), Ok(Change::All(labels.clone())));
        let changes = vec![("a".to_owned(), Some("1".to_owned())), ("b".to_owned(), None)];
        assert_eq!(of(&["labels.a", "labels.b"]), Ok(Change::Some(changes)));
        assert!(matches!(of(&["parent"]), Err(Error::Invalid(_))));
    }
}
