//! Pods, as the kubelet makes them: containerd pulls by labels.

use std::time::{Duration, Instant};

use tonic::transport::Channel;

use crate::containerd::{Containerd, is_empty};
use crate::plugin::{
    Plugin, START, block_on, channel, client, image, layer_requests, log_of, need_root_and_fuse,
    tool,
};
use crate::proto::cri::image_service_client::ImageServiceClient;
use crate::proto::cri::runtime_service_client::RuntimeServiceClient;
use crate::proto::cri::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ExecSyncRequest, ImageSpec,
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, PullImageRequest, RemoveContainerRequest,
    RemoveImageRequest, RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest,
    StopContainerRequest, StopPodSandboxRequest,
};
use crate::proto::snapshots::ListSnapshotsRequest;
use crate::shell::{Home, eventually};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

/// What holds the namespaces of a pod.
fn pause() -> Built {
    let entries = ["bin", "proc", "sys", "dev", "etc", "run", "tmp"].map(Entry::dir);
    let entries = [&entries[..], &[Entry::file("bin/tool", tool()).mode(0o755)]].concat();
    let config = serde_json::json!({ "Entrypoint": ["/bin/tool", "sleep"] });
    let builder = ImageBuilder::new().config("config", config);
    builder.layer(&tar(&entries), Compression::Gzip).build()
}

/// The kubelet's side of a containerd.
struct Kubelet {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Kubelet {
    async fn new(containerd: &Containerd<'_>) -> Kubelet {
        let channel = channel(&containerd.socket()).await;
        let runtime = RuntimeServiceClient::new(channel.clone());
        let mut kubelet = Kubelet { runtime, images: ImageServiceClient::new(channel) };
        // It answers other clients earlier than the kubelet.
        let until = Instant::now() + START;
        let none = Some(ImageSpec { image: "none.example/none:1".to_owned() });
        let request = RemoveImageRequest { image: none };
        while let Err(error) = kubelet.images.remove_image(request.clone()).await {
            assert!(Instant::now() < until, "{error}: {}", containerd.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        kubelet
    }

    async fn pull(&mut self, image: &str) -> String {
        let image = Some(ImageSpec { image: image.to_owned() });
        let request = PullImageRequest { image, ..Default::default() };
        self.images.pull_image(request).await.unwrap().into_inner().image_ref
    }

    async fn remove_image(&mut self, image: &str) {
        let image = Some(ImageSpec { image: image.to_owned() });
        self.images.remove_image(RemoveImageRequest { image }).await.unwrap();
    }

    async fn run_sandbox(&mut self, name: &str) -> String {
        let request = RunPodSandboxRequest { config: Some(sandbox(name)) };
        self.runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id
    }

    async fn remove_sandbox(&mut self, id: &str) {
        let pod_sandbox_id = id.to_owned();
        let stop = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        self.runtime.stop_pod_sandbox(stop).await.unwrap();
        let remove = RemovePodSandboxRequest { pod_sandbox_id };
        self.runtime.remove_pod_sandbox(remove).await.unwrap();
    }

    async fn run(&mut self, sandbox_name: &str, sandbox_id: &str, image: &str) -> String {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "one".to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: image.to_owned() }),
            command: vec!["/bin/tool".to_owned(), "sleep".to_owned()],
            ..Default::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox(sandbox_name)),
        };
        let created = self.runtime.create_container(request).await.unwrap().into_inner();
        let container_id = created.container_id;
        let start = StartContainerRequest { container_id: container_id.clone() };
        self.runtime.start_container(start).await.unwrap();
        container_id
    }

    async fn remove(&mut self, container_id: &str) {
        let container_id = container_id.to_owned();
        let stop = StopContainerRequest { container_id: container_id.clone(), timeout: 0 };
        self.runtime.stop_container(stop).await.unwrap();
        let remove = RemoveContainerRequest { container_id };
        self.runtime.remove_container(remove).await.unwrap();
    }

    async fn exec(&mut self, container_id: &str, words: &[&str]) -> String {
        let request = ExecSyncRequest {
            container_id: container_id.to_owned(),
            cmd: words.iter().map(|word| (*word).to_owned()).collect(),
            timeout: 20,
        };
        let said = self.runtime.exec_sync(request).await.unwrap().into_inner();
        assert_eq!(said.exit_code, 0, "{words:?}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    }
}

/// A pod in the network of the host, so that no plugin for networks is needed.
fn sandbox(name: &str) -> PodSandboxConfig {
    let host = NamespaceMode::Node.into();
    let namespace_options =
        Some(NamespaceOption { network: host, pid: NamespaceMode::Container.into(), ipc: host });
    let security_context = Some(LinuxSandboxSecurityContext { namespace_options });
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        log_directory: String::new(),
        linux: Some(LinuxPodSandboxConfig { security_context }),
    }
}

async fn snapshots(plugin: &Plugin) -> usize {
    let mut client = client(plugin).await;
    let mut rows = client.list(ListSnapshotsRequest::default()).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(message) = rows.message().await.unwrap() {
        count += message.info.len();
    }
    count
}

/// Waits for garbage collection, which comes some time after things are removed.
async fn becomes(plugin: &Plugin, count: usize) {
    let until = Instant::now() + START;
    while snapshots(plugin).await != count {
        assert!(Instant::now() < until, "{} snapshots", snapshots(plugin).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn pods_run_without_a_layer_fetched_by_containerd() {
    need_root_and_fuse();
    let (home, registry, image, pause) = (Home::new(), Registry::start(), image("pod"), pause());
    registry.add_image("app", "1", &image);
    registry.add_image("pause", "1", &pause);
    let mut plugin = Plugin::start(&home);
    let mut containerd = Containerd::start(&home, &registry);
    let name = format!("{}/app:1", registry.addr());
    block_on(async {
        let mut kubelet = Kubelet::new(&containerd).await;
        let read = ["/bin/tool", "cat", "/d/layer"];
        kubelet.pull(&name).await;
        // `ocifs` has streamed each layer for its index, and containerd has fetched none.
        assert_eq!(layer_requests(&registry, &image), 2, "{}", log_of(&home));
        let content = containerd.told(&["--namespace", "k8s.io", "content", "list", "--quiet"]);
        for layer in image.layer_digests() {
            assert!(!content.contains(&layer), "{content}");
        }
        registry.clear_log();
        let sandbox = kubelet.run_sandbox("first").await;
        let container = kubelet.run("first", &sandbox, &name).await;
        assert_eq!(kubelet.exec(&container, &read).await, "second of pod");
        kubelet.exec(&container, &["/bin/tool", "write", "/d/layer", "mine"]).await;
        assert_eq!(kubelet.exec(&container, &read).await, "mine");
        assert_eq!(layer_requests(&registry, &image), 0, "all of it is in the cache");

        // Either side ends in the middle: the container runs on.
        plugin.kill();
        assert_eq!(kubelet.exec(&container, &read).await, "mine");
        plugin = Plugin::start(&home);
        containerd.stop();
        containerd = Containerd::start(&home, &registry);
        kubelet = Kubelet::new(&containerd).await;
        assert_eq!(kubelet.exec(&container, &read).await, "mine");

        // A second pod fetches nothing.
        registry.clear_log();
        kubelet.pull(&name).await;
        let second_sandbox = kubelet.run_sandbox("second").await;
        let second = kubelet.run("second", &second_sandbox, &name).await;
        assert_eq!(kubelet.exec(&second, &read).await, "second of pod");
        assert_eq!(layer_requests(&registry, &image), 0);

        for (container, sandbox) in [(&container, &sandbox), (&second, &second_sandbox)] {
            kubelet.remove(container).await;
            kubelet.remove_sandbox(sandbox).await;
        }
        // Two layers, and that of the sandboxes.
        becomes(&plugin, 3).await;
        kubelet.remove_image(&name).await;
        kubelet.remove_image(&format!("{}/pause:1", registry.addr())).await;
        becomes(&plugin, 0).await;
    });
    assert!(is_empty(&home.path().join("snapshotter/trees")), "{}", containerd.log());
    assert!(eventually(|| home.serving().is_empty()));
    containerd.stop();
    plugin.stop();
}

/// `ocifs` can't open the image, but containerd can.
#[test]
fn what_cannot_be_shown_is_pulled_as_ever() {
    need_root_and_fuse();
    let (home, registry, image, pause) = (Home::new(), Registry::start(), image("mine"), pause());
    registry.add_image("app", "1", &image);
    registry.add_image("pause", "1", &pause);
    let mut plugin = Plugin::start(&home);
    let mut containerd = Containerd::start(&home, &registry);
    let name = format!("{}/app:1", registry.addr());
    home.configure("these are no settings\n");
    block_on(async {
        let mut kubelet = Kubelet::new(&containerd).await;
        kubelet.pull(&name).await;
        assert!(log_of(&home).contains("containerd fetches and unpacks"), "{}", log_of(&home));
        assert_eq!(layer_requests(&registry, &image), 2);
        let sandbox = kubelet.run_sandbox("only").await;
        let container = kubelet.run("only", &sandbox, &name).await;
        assert_eq!(
            kubelet.exec(&container, &["/bin/tool", "cat", "/d/layer"]).await,
            "second of mine"
        );
        kubelet.remove(&container).await;
        kubelet.remove_sandbox(&sandbox).await;
    });
    containerd.stop();
    plugin.stop();
}
